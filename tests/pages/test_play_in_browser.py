"""The page that thinks, in a real browser: what it computes is what PyTorch does, and what it does.

Every test also fails on an error in the console and on a request (`open_page`). Waits are for
conditions, never for time.
"""

from copy import deepcopy
from importlib import resources

import pytest
import torch

import latentcot
from fresh import fresh_subject, prosqa
from latentcot.cli.play import QUICKSTART
from latentcot.evaluation import playable
from latentcot.pages.play import PlayData
from latentcot.studies.quickstart import make_examples
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named
from page_samples import sample_play

pytestmark = pytest.mark.slow

ORIGINS = {"coconut (a)": "a test"}
GRAPH = "#n=0.1.2.3.4.5.6&e=0-1.0-2.1-3.2-4.5-6&q=0.3.6&s=1"
"""0 leads to 1 and 2, these to 3 and 4; 5 leads to 6. Can one reach 3, or 6?"""


@pytest.fixture(scope="module")
def quickstart() -> PlayData:
    """What the page of the quickstart holds."""
    reasoners = [latentcot.load(name, device="cpu") for name in QUICKSTART]
    return playable.play_data(reasoners, make_examples(200), ORIGINS)


def read_slowly(reasoner, question, num_thoughts):
    """Words and the logits before each: a row at a time, without a cache, in double precision."""
    model = deepcopy(reasoner.model).double()
    ids, special = reasoner.tokenizer, reasoner.rules.special_tokens
    kind, table = reasoner.method.view, model.get_input_embeddings()
    tokens = ids(question + reasoner.info.template.question_end)["input_ids"]
    tokens += [special.bot] * kind.has_special_tokens
    inputs = table(torch.tensor(tokens))

    def state():
        return model.base_model(inputs_embeds=inputs[None]).last_hidden_state[0, -1:]

    for _ in range(num_thoughts):
        is_thought = kind.latents.is_thought
        inputs = torch.cat(
            [inputs, state() if is_thought else table(torch.tensor([special.pause]))]
        )
    if kind.has_special_tokens:
        inputs = torch.cat([inputs, table(torch.tensor([special.eot]))])
    words, logits = [], []
    while len(words) < reasoner.info.max_new_tokens and special.eos not in words:
        logits.append(model.get_output_embeddings()(state())[0])
        words.append(int(logits[-1].argmax()))
        inputs = torch.cat([inputs, table(torch.tensor(words[-1:]))])
    return words, torch.stack(logits)


@torch.no_grad()
def compare(page, reasoner, questions, num_thoughts, model=0):
    """Return the largest difference of a logit, how many answers agree, and the largest logit."""
    found = page.evaluate(
        """([questions, model, numThoughts]) => questions.map((question) => {
          const { words, logits, answer, milliseconds } =
            latentcot.ask(question, { model, numThoughts });
          return { words, logits: logits.map((row) => [...row]), answer, milliseconds };
        })""",
        [questions, model, num_thoughts],
    )
    answers = reasoner.generate(
        questions, num_thoughts=num_thoughts if reasoner.method.view.has_latents else None
    )
    num_alike, most, highest = 0, 0.0, 0.0
    for question, one, answer in zip(questions, found, answers, strict=True):
        words, logits = read_slowly(reasoner, question, num_thoughts)
        assert one["words"] == words
        num_alike += one["answer"] == answer.answer
        most = max(most, float((torch.tensor(one["logits"]) - logits).abs().max()))
        highest = max(highest, float(logits.abs().max()))
    times = sorted(one["milliseconds"] for one in found)
    print(f"\n{len(questions)} questions: logits differ by {most:.1e} of {highest:.0f}, "
          f"{num_alike} answers alike, {times[len(times) // 2]:.1f} ms in the middle, "
          f"{times[-1]:.1f} at most")  # fmt: skip
    return most, num_alike, highest


@pytest.mark.parametrize("number", range(3), ids=QUICKSTART)
def test_it_computes_what_pytorch_does_on_200_questions(open_page, quickstart, number):
    options = options_named("two-family", layers=3, shared=0)
    questions = [e.question for e in make_splits(options, {"test": 200}, seed=90_210)["test"]]
    reasoner = latentcot.load(QUICKSTART[number], device="cpu")
    page = open_page(quickstart)
    num_thoughts = 3 if reasoner.method.view.has_latents else 0
    most, num_alike, highest = compare(page, reasoner, questions, num_thoughts, number)
    assert most < 2e-6 * highest
    assert num_alike == 200
    assert page.locator("#check").text_content().startswith("This browser computes what PyTorch")


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("method", ["coconut", "pause", "pause-multipass", "no-cot"])
def test_every_family_and_every_kind_of_latents(open_page, architecture, method):
    examples = prosqa("two-family", 12, layers=2, shared=0)
    subjects = [
        fresh_subject(examples, method=name, architecture=architecture, num_heads=4, init_std=0.2)
        for name in ("coconut", method)
    ]
    for one in subjects:  # norms too must not be ones
        for name, weight in one.reasoner.model.named_parameters():
            if "norm" in name or "ln_" in name:
                torch.nn.init.normal_(weight, std=0.5, mean=1.0)
    reasoners = [one.reasoner for one in subjects]
    page = open_page(playable.play_data(reasoners, examples, ORIGINS))
    questions = [example.question for example in examples]
    for num_thoughts in (1, 5) if method != "no-cot" else (0,):
        most, num_alike, highest = compare(page, reasoners[1], questions, num_thoughts, 1)
        assert most <= 1e-5 * highest
        assert num_alike == len(questions)


@pytest.mark.parametrize("zero_thoughts", ["both", "bot", "none"])
def test_no_thoughts_at_all_are_laid_out_as_in_training(open_page, zero_thoughts):
    examples = prosqa("two-family", 5, layers=2, shared=0)
    subject = fresh_subject(examples)
    info = deepcopy(subject.reasoner.info)
    object.__setattr__(info, "zero_thoughts", zero_thoughts)
    reasoner = latentcot.Reasoner(subject.reasoner.model, subject.reasoner.tokenizer, info)
    page = open_page(playable.play_data([reasoner], examples, ORIGINS))
    for example in examples:
        found = page.evaluate("(q) => latentcot.ask(q, { numThoughts: 0 }).text", example.question)
        assert found == reasoner.generate([example.question], num_thoughts=0)[0].text


def test_weights_in_half_precision_are_those_of_the_rounded_model(open_page, monkeypatch):
    monkeypatch.setattr(playable, "FULL_BYTES", 0)
    reasoner = latentcot.load("quickstart", device="cpu")
    examples = make_examples(60)
    data = playable.play_data([reasoner], examples, ORIGINS)
    assert data["models"][0]["weights"]["dtype"] == "float16"
    for parameter in reasoner.model.parameters():
        parameter.data = parameter.data.half().float()
    questions = [example.question for example in examples]
    most, num_alike, highest = compare(open_page(data), reasoner, questions, 3)
    assert most < 2e-6 * highest
    assert num_alike == len(questions)


def test_a_browser_that_computes_something_else_says_so(open_page):
    page = open_page(sample_play())  # whose check was never computed
    assert page.locator("#check").text_content().startswith("Beware")


# --- thoughts ---------------------------------------------------------------------------------


def rings(page):
    """The names of the nodes with a ring around them."""
    return page.evaluate(
        """() => {
          const nodes = [...document.querySelectorAll("#board g.node .share")];
          return [...document.querySelectorAll("#board .halo")]
            .flatMap((halo, k) => halo.classList.contains("is-held") ? [nodes[k].textContent] : []);
        }"""
    )


def answers(page):
    """Method → the words of its row."""
    rows = page.locator("#answers tbody tr")
    return [rows.nth(k).text_content() for k in range(rows.count())]


def test_steps_move_the_frontier_and_everything_says_so(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    assert rings(page) == ["1", "2"]
    assert "1 step from the root (1 and 2)" in page.locator("#readout").text_content()
    page.focus("#thought-play")
    page.keyboard.press("ArrowRight")
    assert rings(page) == ["3", "4"]
    words = page.locator("#live").text_content()
    assert words.startswith("Thought 2 gives ") and "coconut: 3." in words
    assert page.locator("#minis button").nth(1).get_attribute("aria-pressed") == "true"
    assert page.locator("#thought-range").get_attribute("aria-valuetext") == "thought 2 of 2"
    page.keyboard.press("ArrowRight")
    assert rings(page) == [] and "It answers 3." in page.locator("#live").text_content()
    page.locator("#minis button").first.click()
    assert rings(page) == ["1", "2"]


def test_number_of_thoughts(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    assert page.locator("#minis button").count() == 2
    page.fill("#number", "5")
    page.keyboard.press("Enter")
    assert page.locator("#minis button").count() == 5
    assert "●●●●●" in answers(page)[0]
    assert "‖‖‖‖‖" in answers(page)[2]
    assert "5 thoughts; in training 2 for" in page.locator("#notes").text_content()
    page.click("#as-trained")
    assert page.locator("#minis button").count() == 2
    page.fill("#number", "0")
    page.keyboard.press("Enter")
    assert page.locator("#minis button").count() == 0
    assert page.locator("#thought-number").text_content() in ("the question", "the answer")


def test_changed_thoughts_change_what_follows(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    assert "✓ right" in answers(page)[0]
    minis = page.locator("#minis button span")
    before = minis.all_text_contents()
    page.select_option("#change-node", label="5")
    page.click("#change-add")
    page.select_option("#change-node", label="1")
    page.click("#change-remove")
    page.select_option("#change-node", label="2")
    page.click("#change-remove")
    assert minis.all_text_contents() != before
    rows = answers(page)
    assert "as you changed" in rows[0] and "by itself" in rows[1] and "✓ right" in rows[1]
    assert "✗ wrong" in rows[0]  # thought 1 holds the other root: its child is reached
    assert page.locator("#changes button").count() == 3
    assert "A thought is changed" in page.locator("#notes").text_content()
    page.get_by_role("radio", name="Erase").check()
    page.mouse.click(*middle(page, "1"))  # stands before 2, which stays chosen
    assert page.locator("#change-node option:checked").text_content() == "2"
    page.click("#undo")
    page.click("#change-zero")  # in place of the whole thought
    assert page.locator("#changes").text_content() == "thought 1: zero ×"
    page.click("#change-swap")
    assert page.locator("#changes").text_content() == "thought 1: from another graph ×"
    page.locator("#changes button").click()
    assert minis.all_text_contents() == before


def test_one_thought_turns_the_answer(open_page, quickstart):
    """Of thought 1: out with the node that leads to the right candidate, in with the other one."""
    page = open_page(quickstart)
    flipped = []
    for puzzle in [one for one in quickstart["puzzles"] if len(one["nodes"]) == 14]:
        parent = {child: above for above, child in puzzle["edges"]}
        names = [quickstart["names"].index(name) for name in puzzle["nodes"]]
        chains = []  # of each candidate: the node below its root
        for node in puzzle["candidates"]:
            while parent[node] in parent:
                node = parent[node]
            chains.append(node)
        chains.sort(key=lambda node: parent[node] != puzzle["root"])
        parts = {
            "n": names,
            "e": ["-".join(map(str, edge)) for edge in puzzle["edges"]],
            "q": [puzzle["root"], *puzzle["candidates"]],
            "c": [f"1a{chains[1]}", f"1r{chains[0]}"],
        }
        link = "&".join(f"{key}={'.'.join(map(str, values))}" for key, values in parts.items())
        page.evaluate("(link) => { location.hash = link; }", link)
        wanted = " ".join(puzzle["nodes"][node] for node in puzzle["candidates"])
        page.wait_for_function(
            """(words) => document.getElementById("question-text").textContent.endsWith(words)
              && document.querySelectorAll("#changes button").length === 2""",
            arg=f"[Q] {wanted} [R] {puzzle['nodes'][puzzle['root']]}",
        )
        changed, own = answers(page)[:2]
        flipped.append("✗ wrong" in changed and "✓ right" in own)
    print(f"\n{sum(flipped)} of {len(flipped)} answers flip")
    assert len(flipped) > 15
    assert sum(flipped) >= 0.9 * len(flipped)


# --- drawing ----------------------------------------------------------------------------------


def middle(page, name):
    """Where a node is on the screen."""
    node = page.locator("#board g.node", has=page.locator(f".share:text-is('{name}')"))
    box = node.locator(".shape").last.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def text_of(page):
    return page.locator("#question-text").text_content()


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def test_nodes_and_edges_by_mouse(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    page.locator("#board").scroll_into_view_if_needed()
    start = text_of(page)
    assert start == "0 1 0 2 1 3 2 4 5 6 [Q] 3 6 [R] 0"
    x, y = middle(page, "4")
    drag(page, (x, y), (x + 60, y - 30))
    assert middle(page, "4") == pytest.approx((x + 60, y - 30), abs=1.5)
    assert text_of(page) == start  # where a node stands is nothing that a model reads
    page.get_by_role("radio", name="Connect").check()
    drag(page, middle(page, "4"), middle(page, "6"))
    assert text_of(page) == "0 1 0 2 1 3 2 4 5 6 4 6 [Q] 3 6 [R] 0"
    assert "Each of the candidates" in page.locator("#notes").text_content()
    assert "no right answer" in answers(page)[0]
    page.mouse.click(*middle(page, "1"))  # one, then the other
    page.mouse.click(*middle(page, "3"))
    assert text_of(page) == "0 1 0 2 2 4 5 6 4 6 [Q] 3 6 [R] 0"
    x, y = middle(page, "3")
    drag(page, (x, y), (x - 40, y - 60))  # into the open: a new node
    assert text_of(page) == "0 1 0 2 2 4 5 6 4 6 3 7 [Q] 3 6 [R] 0"
    page.get_by_role("radio", name="Erase").check()
    page.mouse.click(*middle(page, "2"))
    assert text_of(page) == "0 1 5 6 4 6 3 7 [Q] 3 6 [R] 0"
    page.mouse.click(*middle(page, "6"))
    assert "6 is asked about" in page.locator("#status").text_content()
    for _ in range(5):
        page.click("#undo")
    assert text_of(page) == start
    assert page.locator("#undo").is_disabled()


def test_nodes_and_edges_by_keys(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    node = page.locator("#board g.node")
    x, _ = middle(page, "1")
    node.nth(1).focus()
    page.keyboard.press("ArrowLeft")
    assert middle(page, "1")[0] < x
    assert page.evaluate("document.activeElement.dataset.node") == "1"
    page.get_by_role("radio", name="Connect").check()
    for number in (1, 4):
        node.nth(number).focus()
        page.keyboard.press("Enter")
    assert text_of(page).startswith("0 1 0 2 1 3 2 4 5 6 1 4 ")
    node.nth(4).focus()
    page.keyboard.press("Delete")
    assert text_of(page) == "0 1 0 2 1 3 5 6 [Q] 3 6 [R] 0"
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert text_of(page) == "0 1 0 2 1 3 2 4 5 6 [Q] 3 6 [R] 0"
    label = node.nth(0).get_attribute("aria-label")
    assert label.startswith("node 0, root asked about, depth 0, leads to 1 and 2, ")


def test_what_comes_between_ends_a_drag(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    page.locator("#board").scroll_into_view_if_needed()
    start, (x, y) = text_of(page), middle(page, "4")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=4)
    page.keyboard.press("Control+z")  # takes the drag back
    assert middle(page, "4") == pytest.approx((x, y), abs=1.5)
    page.mouse.move(x + 90, y, steps=4)
    page.mouse.up()
    assert middle(page, "4") == pytest.approx((x, y), abs=1.5)
    assert page.locator("#undo").is_disabled()
    page.get_by_role("radio", name="Connect").check()
    page.mouse.click(*middle(page, "1"))
    page.get_by_role("radio", name="Move").check()
    page.get_by_role("radio", name="Connect").check()
    page.mouse.click(*middle(page, "4"))  # the first of two: what was begun before is forgotten
    assert text_of(page) == start
    page.mouse.click(*middle(page, "6"))
    assert text_of(page) == "0 1 0 2 1 3 2 4 5 6 4 6 [Q] 3 6 [R] 0"


def test_a_press_that_ends_elsewhere_swallows_nothing(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    page.locator("#board").scroll_into_view_if_needed()
    page.get_by_role("radio", name="Erase").check()
    box = page.locator("#board").bounding_box()
    drag(page, (box["x"] + 3, box["y"] + 3), (box["x"] + 3, box["y"] - 40))
    page.mouse.click(*middle(page, "2"))
    assert text_of(page) == "0 1 1 3 5 6 [Q] 3 6 [R] 0"


def test_nodes_by_touch(open_page, quickstart):
    page = open_page(quickstart, GRAPH, has_touch=True, viewport={"width": 390, "height": 844})
    page.locator("#board").scroll_into_view_if_needed()
    page.get_by_role("radio", name="Connect").check()
    page.touchscreen.tap(*middle(page, "2"))
    page.touchscreen.tap(*middle(page, "3"))
    assert text_of(page).startswith("0 1 0 2 1 3 2 4 5 6 2 3 ")
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        points = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    page.get_by_role("radio", name="Move").check()
    x, y = middle(page, "4")
    touch("touchStart", (x, y))
    for k in range(1, 6):
        touch("touchMove", (x - 8 * k, y - 8 * k))
    touch("touchEnd")
    assert middle(page, "4") == pytest.approx((x - 40, y - 40), abs=2)
    touch("touchStart", (x - 40, y - 40))
    touch("touchMove", (x, y))
    touch("touchCancel")  # as when the browser takes the finger for something else
    assert middle(page, "4") == pytest.approx((x - 40, y - 40), abs=2)
    page.click("#undo")
    assert middle(page, "4") == pytest.approx((x, y), abs=2)


def test_what_is_asked_and_random_graphs(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    page.select_option("#role-1", label="4")
    assert text_of(page).endswith("[Q] 4 6 [R] 0")
    page.select_option("#role-0", label="6")  # was a candidate: they change places
    assert text_of(page).endswith("[Q] 4 0 [R] 6")
    for hops in range(1, 7):
        page.select_option("#hops", label=str(hops))
        page.click("#random")
        assert page.locator("#minis button").count() == min(hops, 3)
        notes = page.locator("#notes-list").text_content()
        assert (f"{hops} hops; in training 1, 2 or 3" in notes) == (hops > 3)
    page.click("#example")
    assert page.locator("#notes").is_hidden()
    assert page.locator("#board g.node").count() in (6, 10, 14)


def test_questions_that_are_too_long_are_refused_in_words(open_page, quickstart):
    edges = [f"{a}-{b}" for a in range(14) for b in range(a + 1, 14)]
    names = ".".join(map(str, range(14)))
    page = open_page(quickstart, f"#n={names}&e={'.'.join(edges)}&q=0.3.6")
    assert "91 edges" in answers(page)[0] and "it has 64" in answers(page)[0]
    assert page.locator("#minis button").count() == 0
    assert page.locator("#number").is_visible()  # to let it think less
    page.click("#example")
    assert "✓ right" in answers(page)[0]


def test_words_that_a_model_does_not_know_are_refused(open_page, quickstart):
    page = open_page(quickstart | {"edge": "{}-{} "}, GRAPH)
    assert "It does not know the word 0-1." in answers(page)[0]


def test_a_graph_that_is_too_long_gives_no_thought(open_page, quickstart):
    data = deepcopy(quickstart)
    for model in data["models"]:
        model["shape"]["num_positions"] = 24  # the other graph has 8 edges, the question's has 5
        model["check"] = {"question": "0 1", "num_thoughts": 0, "words": [], "logits": []}
    page = open_page(data, GRAPH)
    assert "●●" in answers(page)[0]
    page.click("#change-swap")
    row = answers(page)[0]
    assert "Thought 1 comes from another graph" in row and "8 edges" in row and "it has 24" in row
    page.locator("#changes button").click()
    assert "●●" in answers(page)[0]


# --- the link ---------------------------------------------------------------------------------


def test_a_link_brings_everything_back(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    page.select_option("#change-node", label="5")
    page.click("#change-add")
    page.click("#change-swap")
    page.fill("#number", "4")
    page.keyboard.press("Enter")
    page.click("#thought-previous")
    page.wait_for_function("() => /t=4&s=0/.test(location.hash)")
    seen = "() => document.getElementById('play').innerText.replace(/[0-9.]+\\s*ms/g, '')"
    link, before = page.evaluate("location.hash"), page.evaluate(seen)
    other = open_page(quickstart, link)
    assert other.evaluate(seen).replace("Undo", "") == before.replace("Undo", "")


@pytest.mark.parametrize(
    "hash",
    [
        *("#%%%", "#n=1", "#n=0.1.2&q=0.1.1", "#n=0.1.99&q=0.1.2", "#n=0.1.2&e=0-9&q=0.1.2"),
        *("#n=0.1.2&e=0-1.0-1&q=0.1.2", "#n=0.1.2&q=0.1.2&t=1e9&s=-7&c=1z.2a77.9s.xx.3r1&p=0-x"),
        "#n=<img src=x onerror=alert(1)>.1.2&q=0.1.2",
    ],
)
def test_a_link_of_nonsense_shows_something(open_page, quickstart, hash):
    page = open_page(quickstart, hash)
    assert page.locator("#board g.node").count() >= 3
    assert len(answers(page)) >= 3


def test_the_link_can_be_copied(open_page, quickstart):
    page = open_page(quickstart, GRAPH)
    page.click("#link")
    page.wait_for_function(
        "() => document.getElementById('status').textContent || "
        "!document.getElementById('link-text').hidden"
    )
    assert "n=0.1.2.3.4.5.6" in page.locator("#link-text").input_value()


# --- for everybody ----------------------------------------------------------------------------


def test_names_cannot_run_code(open_page):
    names = [
        f'</script><script>alert(1)</script><img/src="x"/onerror="alert({k})">' for k in range(14)
    ]
    page = open_page(sample_play(names))
    assert page.locator("#board .share").all_text_contents()[0] in names
    for part in ("#answers", "#best", "#nodes-table", "#role-0", "#changes"):
        if part == "#changes":
            page.click("#change-add")
        assert "<script>" in page.locator(part).text_content(), part
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_nothing_sticks_out_of_the_window(open_page, quickstart, width, scheme):
    page = open_page(quickstart, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.click("#change-zero")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(open_page, quickstart, width, scheme):
    pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    axe = next(
        file
        for file in resources.files("axe_playwright_python").iterdir()
        if file.name == "axe.min.js"
    )
    page = open_page(quickstart, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.click("#change-zero")
    page.fill("#number", "5")
    page.keyboard.press("Enter")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert [(one["id"], one["help"], [n["html"][:90] for n in one["nodes"]])
            for one in found["violations"]] == []  # fmt: skip
    assert len(found["passes"]) > 20
