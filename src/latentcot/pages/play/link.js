// The state of the page as a link: what stands behind # is all that it takes to see the same.

//   n  nodes, as numbers of names        e  edges           q  root and both candidates
//   p  places, in thousandths            t  thoughts        s  the thought that is looked at
//   c  changes: thought, kind, node (or the seed of another graph)
// Names come as numbers alone, so that no link can bring one of its own.

const KINDS = { z: "zero", a: "add", r: "remove", s: "swap" };

function linkOf({ puzzle, wanted, step, changes }, names) {
  const letter = (kind) => Object.keys(KINDS).find((one) => KINDS[one] === kind);
  const parts = {
    n: puzzle.nodes.map((name) => names.indexOf(name)).join("."),
    e: puzzle.edges.map((edge) => edge.join("-")).join("."),
    q: [puzzle.root, ...puzzle.candidates].join("."),
    p: puzzle.places.map((place) => place.map((x) => Math.round(1000 * x)).join("-")).join("."),
    t: wanted ?? "",
    s: step,
    c: changes.map(({ thought, kind, value }) => `${thought}${letter(kind)}${value ?? ""}`).join("."),
  };
  return `#${Object.entries(parts).filter(([, value]) => value !== "")
    .map(([key, value]) => `${key}=${value}`).join("&")}`;
}

// What a link says; null where it says no graph that could be shown.
function readLink(hash, names, mostThoughts) {
  const parts = new URLSearchParams(hash.slice(1));
  const numbers = (text, separator) => text.split(separator).filter((one) => one !== "").map(Number);
  const rows = (key) => (parts.get(key) ?? "").split(".").filter((one) => one !== "")
    .map((row) => numbers(row, "-"));
  const chosen = numbers(parts.get("n") ?? "", ".");
  const isNode = (node) => Number.isInteger(node) && node >= 0 && node < chosen.length;
  const [edges, places, roles] = [rows("e"), rows("p"), numbers(parts.get("q") ?? "", ".")];
  const isGraph = chosen.length >= 3 && new Set(chosen).size === chosen.length &&
    chosen.every((number) => names[number] !== undefined) &&
    edges.every((edge) => edge.length === 2 && edge.every(isNode) && edge[0] !== edge[1]) &&
    new Set(edges.map(String)).size === edges.length &&
    roles.length === 3 && new Set(roles).size === 3 && roles.every(isNode);
  if (!isGraph) return null;
  const [root, ...candidates] = roles;
  const puzzle = { nodes: chosen.map((number) => names[number]), edges, root, candidates };
  const isPlaced = places.length === chosen.length &&
    places.every((place) => place.length === 2 && place.every(isNumber) && !place.some(isNaN));
  const thoughts = parts.has("t") ? Number(parts.get("t")) : NaN;
  const changes = (parts.get("c") ?? "").split(".").flatMap((words) => {
    const [, thought, letter, value] = /^(\d+)([zars])(\d*)$/.exec(words) ?? [];
    const change = { thought: Number(thought), kind: KINDS[letter],
      value: value ? Number(value) : null };
    const isRight = { zero: value === "", swap: value !== "", add: isNode(change.value),
      remove: isNode(change.value) }[change.kind];
    return isRight ? [change] : [];
  });
  return {
    puzzle: isPlaced
      ? { ...puzzle, places: places.map(([x, y]) => [clamp(x / 1000, 0, 1), clamp(y / 1000, 0, 1)]) }
      : withPlaces(puzzle),
    wanted: Number.isInteger(thoughts) ? clamp(thoughts, 0, mostThoughts) : null,
    step: /^\d+$/.test(parts.get("s")) ? Number(parts.get("s")) : 1,
    changes,
  };
}
