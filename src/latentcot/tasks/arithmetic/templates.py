"""The sentences of arithmetic problems: what each move may be called, in each wording.

A key is the form of a move and its operation; "?" asks for the answer, "total?" for that of a
problem which ends with a total. Sentences get their capitals afterwards. What stands in braces:

    {S}            the holder: a name, he, she, they      {N}   the same, never he or she
    {s} {has} {does}   endings that go with it            {o}   him, her, them
    {Q}            who is compared with the holder        {than}  the holder after "than" and "as"
    {A} {B}        whose numbers a total adds
    {n}, {a} {b}   the numbers                            {times} {part}   {n} as "twice", "half"
    {things} {thing} {boxes} {box} {gain} {loss}  words of the theme; {treat} {treats}  what is paid
    {unit}         the things, or coins once they were sold (short)

No sentence has a number, in digits or words, that is not one of the move's.
"""

from typing import NamedTuple

Table = dict[str, tuple[str, ...]]

STORY: Table = {
    "plain": (
        "{N} has {n} {things}.",
        "{N} starts the week with {n} {things}.",
        "on Monday, {N} has {n} {things}.",
        "there are {n} {things} on the table, and all of them belong to {N}.",
    ),
    "groups*": (
        "{N} has {a} {boxes} with {b} {things} in each {box}.",
        "{N} buys {a} {boxes} of {things}. Each {box} holds {b} {things}.",
        "there are {b} {things} in a {box}, and {N} has {a} {boxes}.",
        "{N} {gain}s {b} {things} a day for {a} days.",
    ),
    "pair+": (
        "{N} has {a} large {things} and {b} small {things}.",
        "{N} {gain}s {a} {things} in the morning and {b} in the afternoon.",
        "{N} has {a} {things} at home and another {b} {things} at school.",
    ),
    "change+": (
        "{S} {gain}{s} {n} more {things}.",
        "{S} {gain}{s} another {n} {things}.",
        "a friend gives {o} {n} more {things}.",
        "the neighbours bring {o} {n} {things}.",
    ),
    "change-": (
        "{S} {loss}{s} {n} {things}.",
        "{S} {loss}{s} {n} of the {things}.",
        "{S} give{s} {n} {things} to a friend.",
        "{S} put{s} {n} of the {things} aside for somebody else.",
    ),
    "change*": (
        "by the end of the month, {S} {has} {times} as many {things}.",
        "{S} go{es} on until {S} {has} {times} as many {things} as before.",
        "the number of {things} that {N} {has} soon becomes {times} as large.",
    ),
    "change/": (
        "{S} keep{s} {part} of the {things} and give{s} the rest away.",
        "{S} divide{s} the {things} equally among {n} {boxes} and keep{s} only one {box}.",
        "{S} share{s} the {things} so that each of {n} people, {N} among them, has equally many.",
    ),
    "compare+": (
        "{Q} has {n} more {things} than {than}.",
        "{N} {has} {n} fewer {things} than {Q}.",
        "{N} would need {n} more {things} to have as many as {Q}.",
    ),
    "compare-": (
        "{Q} has {n} fewer {things} than {than}.",
        "{N} {has} {n} more {things} than {Q}.",
        "{Q} would need {n} more {things} to have as many as {than}.",
    ),
    "compare*": (
        "{Q} has {times} as many {things} as {than}.",
        "{N} {has} only {part} as many {things} as {Q}.",
    ),
    "compare/": (
        "{Q} has {part} as many {things} as {than}.",
        "{N} {has} {times} as many {things} as {Q}.",
    ),
    "sale*": (
        "{S} sell{s} all the {things} for ${n} each.",
        "{S} sell{s} every {thing} for ${n}.",
        "at the market a {thing} is worth ${n}, and {S} sell{s} all of them.",
    ),
    "side+": (
        "{S} {gain}{s} {a} more {boxes} of {things}, and there are {b} {things} in each {box}.",
        "{S} buy{s} {a} {boxes} with {b} {things} each.",
        "{a} friends give {o} {b} {things} each.",
    ),
    "side-": (
        "{S} give{s} {b} {things} to each of {a} friends.",
        "{S} {loss}{s} {b} {things} a day for {a} days.",
    ),
    "part-": (
        "{S} give{s} {part} of the {things} away.",
        "{S} {loss}{s} {part} of the {things}.",
    ),
    "total+": (
        "{A} and {B} put all their {things} together.",
        "{A} and {B} decide to share everything they have and put it on one pile.",
    ),
    "total?": (
        "How many {things} do {A} and {B} have together?",
        "How many {things} do {A} and {B} have in all?",
        "What is the total number of {things} that {A} and {B} have?",
    ),
    "?": (
        "How many {things} {does} {S} have now?",
        "How many {things} {does} {S} have?",
        "How many {things} {does} {S} have in the end?",
        "What is the number of {things} that {S} {has} now?",
    ),
}

# Once things were sold; what is missing here is never needed.
MONEY: Table = {
    "change+": (
        "{S} earn{s} ${n} more.",
        "an uncle gives {o} another ${n}.",
        "{S} find{s} ${n} in an old coat.",
    ),
    "change-": (
        "{S} spend{s} ${n} on {treat}.",
        "{S} pay{s} ${n} for {treat}.",
        "{S} give{s} ${n} to charity.",
    ),
    "change*": (
        "by the end of the year, {S} {has} {times} as much money.",
        "{S} save{s} until {S} {has} {times} as much money as before.",
    ),
    "change/": (
        "{S} keep{s} {part} of the money and spend{s} the rest on {treat}.",
        "{S} divide{s} the money equally among {n} envelopes and keep{s} only one envelope.",
    ),
    "compare+": (
        "{Q} has ${n} more than {than}.",
        "{N} {has} ${n} less than {Q}.",
    ),
    "compare-": (
        "{Q} has ${n} less than {than}.",
        "{N} {has} ${n} more than {Q}.",
    ),
    "compare*": (
        "{Q} has {times} as much money as {than}.",
        "{N} {has} only {part} as much money as {Q}.",
    ),
    "compare/": (
        "{Q} has {part} as much money as {than}.",
        "{N} {has} {times} as much money as {Q}.",
    ),
    "side+": (
        "{S} work{s} {a} hours for ${b} an hour.",
        "{a} friends give {o} ${b} each.",
    ),
    "side-": (
        "{S} buy{s} {a} {treats} for ${b} each.",
        "{S} spend{s} ${b} a day for {a} days.",
    ),
    "part-": (
        "{S} spend{s} {part} of the money on {treat}.",
        "{S} give{s} {part} of the money to charity.",
    ),
    "total+": ("{A} and {B} put all their money together.",),
    "total?": (
        "How much money do {A} and {B} have together?",
        "How many dollars do {A} and {B} have in all?",
    ),
    "?": (
        "How much money {does} {S} have now?",
        "How many dollars {does} {S} have in the end?",
        "How much money {does} {S} have?",
    ),
}

SHORT: Table = {
    "plain": ("{N} has {n} {unit}.",),
    "groups*": ("{N} has {a} boxes of {b} {unit}.",),
    "pair+": ("{N} has {a} old and {b} new {unit}.",),
    "change+": ("{N} get{s} {n} {unit}.",),
    "change-": ("{N} lose{s} {n} {unit}.",),
    "change*": ("{N} now {has} {n} times that.",),
    "change/": ("{N} keep{s} one of {n} parts.",),
    "compare+": ("{Q} has {n} more than {than}.", "{N} {has} {n} fewer than {Q}."),
    "compare-": ("{Q} has {n} fewer than {than}.", "{N} {has} {n} more than {Q}."),
    "compare*": ("{Q} has {n} times as many as {than}.",),
    "compare/": ("{N} {has} {n} times as many as {Q}.",),
    "sale*": ("{N} sell{s} each for {n} coins.",),
    "side+": ("{N} get{s} {a} boxes of {b} {unit}.",),
    "side-": ("{N} lose{s} {a} boxes of {b} {unit}.",),
    "part-": ("{N} lose{s} one of {n} parts.",),
    "total+": ("{A} and {B} put all together.",),
    "total?": ("How many {unit} do {A} and {B} have?",),
    "?": ("How many {unit} {does} {N} have?",),
}

CONNECTORS = ("then ", "later ", "after that, ", "the next day, ", "a week later, ")
"""What may stand before a sentence that begins with {S}."""


class Theme(NamedTuple):
    """What a problem is about: verbs in the form that takes an s."""

    things: str
    thing: str
    boxes: str
    box: str
    gains: tuple[str, ...]
    losses: tuple[str, ...]


THEMES = (
    Theme("pens", "pen", "boxes", "box", ("buy", "find"), ("lose", "break")),
    Theme("cookies", "cookie", "bags", "bag", ("bake", "buy"), ("eat", "drop")),
    Theme("apples", "apple", "baskets", "basket", ("pick", "collect"), ("eat", "use")),
    Theme("eggs", "egg", "cartons", "carton", ("collect", "buy"), ("break", "use")),
    Theme("stickers", "sticker", "packs", "pack", ("collect", "order"), ("use", "lose")),
    Theme("marbles", "marble", "jars", "jar", ("win", "find"), ("lose", "drop")),
    Theme("shells", "shell", "buckets", "bucket", ("find", "collect"), ("lose", "break")),
    Theme("flowers", "flower", "bunches", "bunch", ("pick", "buy"), ("use", "drop")),
    Theme("books", "book", "crates", "crate", ("buy", "order"), ("lose", "lend")),
    Theme("candles", "candle", "boxes", "box", ("make", "order"), ("burn", "use")),
    Theme("muffins", "muffin", "trays", "tray", ("bake", "make"), ("eat", "burn")),
    Theme("stamps", "stamp", "albums", "album", ("collect", "order"), ("lose", "use")),
    Theme("lemons", "lemon", "nets", "net", ("pick", "buy"), ("use", "drop")),
    Theme("bracelets", "bracelet", "bags", "bag", ("make", "order"), ("lose", "break")),
    Theme("balloons", "balloon", "packs", "pack", ("order", "find"), ("burst", "lose")),
    Theme("seedlings", "seedling", "trays", "tray", ("grow", "buy"), ("lose", "plant")),
)

TREATS = (
    ("a ticket", "tickets"),
    ("a book", "books"),
    ("lunch", "lunches"),
    ("a present", "presents"),
    ("a lamp", "lamps"),
    ("a game", "games"),
)

_MEN = "Adam Ben Carl David Eric Felix Greg Henry Ivan Jack Karl Leo Max Noah Paul Tom"
_WOMEN = "Amy Bella Carla Dora Emma Fay Grace Hannah Iris Jane Kate Lily Mary Nora Rose Sue"
MEN = tuple(_MEN.split())
WOMEN = tuple(_WOMEN.split())
