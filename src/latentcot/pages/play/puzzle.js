// A graph and the question about it: plain values, drawn at random or changed by hand.

// {nodes: names, edges: [parent, child] each, root, candidates: [a, b], places: [x, y] each}. A node
// is its index; places go from 0 to 1, from the left and from the top. No function here changes the
// puzzle that it is given.

function textOfPuzzle({ nodes, edges, root, candidates: [a, b] }, form) {
  const [before, between, behind] = form.split("{}");
  const told = edges.map(([parent, child]) =>
    `${before}${nodes[parent]}${between}${nodes[child]}${behind}`);
  return `${told.join("")}[Q] ${nodes[a]} ${nodes[b]} [R] ${nodes[root]}`;
}

// What the shared drawing and the readings need to know of it.
function questionOf(puzzle) {
  const { nodes, edges, root, candidates: both } = puzzle;
  const distances = distancesFrom([root], edges);
  const targets = both.filter((node) => distances.has(node));
  const wrongs = both.filter((node) => !distances.has(node));
  const target = targets[0] ?? null;
  const path = targets.length === 1 ? shortestPath(puzzle, target) : [];
  return { nodes, edges, root, target, targets, wrongs, path, distances,
    hops: targets.length === 1 ? distances.get(target) : null };
}

function shortestPath({ edges, root }, goal) {
  const path = [goal];
  while (path[0] !== root) {
    const distances = distancesFrom([root], edges);
    path.unshift(edges.find(([parent, child]) => child === path[0] &&
      distances.get(parent) === distances.get(child) - 1)[0]);
  }
  return path;
}

// Where its nodes stand if nobody has moved them.
function withPlaces(puzzle) {
  const plan = planOf({ ...puzzle, path: [] });
  const last = Math.max(1, plan.numLayers - 1);
  const places = puzzle.nodes.map((_, node) => {
    const { x, y } = plan.places.get(node);
    return [x / plan.width, y / last];
  });
  return { ...puzzle, places };
}

// --- drawing one at random -----------------------------------------------------------------------

// Numbers from 0 to 1 that depend on the seed alone (mulberry32).
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function shuffled(items, random) {
  const left = [...items];
  return items.map(() => left.splice(Math.floor(random() * left.length), 1)[0]);
}

// Two families of the same shape: a root, and `hops` layers of two nodes (of one, from the top, where
// the names would not suffice), each with a random parent in the layer above. A candidate of each
// stands in the last layer. Names, edges, candidates and root are in random order.
function randomPuzzle(hops, names, seed) {
  const random = randomFrom(seed);
  const spare = Math.floor(names.length / 2) - 1 - hops;
  const families = [[[0]], [[1]]];
  const edges = [];
  let node = 2;
  for (let layer = 1; layer <= hops; layer += 1) {
    const width = hops - layer < spare ? 2 : 1;
    for (const family of families) {
      const above = family.at(-1);
      family.push(Array.from({ length: width }, (_, k) => node + k));
      for (const child of family.at(-1)) {
        edges.push([above[Math.floor(random() * above.length)], child]);
      }
      node += width;
    }
  }
  const ends = families.map((family) => shuffled(family.at(-1), random)[0]);
  const candidates = shuffled(ends, random);
  const root = Math.floor(random() * 2);
  const nodes = shuffled(names, random).slice(0, node);
  return withPlaces({ nodes, edges: shuffled(edges, random), root, candidates });
}

// The most hops for which there are names.
function mostHops(names) {
  return Math.max(1, Math.floor(names.length / 2) - 1);
}

// --- changing it by hand -------------------------------------------------------------------------

function toggleEdge(puzzle, from, to) {
  const others = puzzle.edges.filter(([parent, child]) => parent !== from || child !== to);
  const edges = others.length < puzzle.edges.length ? others : [...others, [from, to]];
  return { ...puzzle, edges };
}

// A new node has the first name that is free; null where there is none.
function withNode(puzzle, names, place) {
  const name = names.find((one) => !puzzle.nodes.includes(one));
  if (name === undefined) return null;
  return { ...puzzle, nodes: [...puzzle.nodes, name], places: [...puzzle.places, place] };
}

// Root and candidates must stay; null for one of them.
function withoutNode(puzzle, node) {
  if (node === puzzle.root || puzzle.candidates.includes(node)) return null;
  const moved = (other) => (other > node ? other - 1 : other);
  const keep = (_, k) => k !== node;
  return {
    nodes: puzzle.nodes.filter(keep),
    places: puzzle.places.filter(keep),
    edges: puzzle.edges.filter((edge) => !edge.includes(node)).map((edge) => edge.map(moved)),
    root: moved(puzzle.root),
    candidates: puzzle.candidates.map(moved),
  };
}

function movedTo(puzzle, node, [x, y]) {
  const place = [clamp(x, 0, 1), clamp(y, 0, 1)];
  return { ...puzzle, places: puzzle.places.map((old, k) => (k === node ? place : old)) };
}

// Root and candidates are three nodes: whoever stands where one is put takes its place.
function withRole(puzzle, role, node) {
  const roles = [puzzle.root, ...puzzle.candidates];
  const before = roles[role];
  const [root, ...both] = roles.map((one, k) => (k === role ? node : one === node ? before : one));
  return { ...puzzle, root, candidates: both };
}

// --- what training has not shown -----------------------------------------------------------------

// In words, each a sentence; none where the question is like those of the training.
function strangeness(puzzle, question, trained) {
  const found = [];
  const differs = (number, known, one, many) => {
    if (known.includes(number)) return;
    found.push(`${number} ${number === 1 ? one : many}; in training ${listed(known)}.`);
  };
  differs(puzzle.nodes.length, trained.nodes, "node", "nodes");
  differs(puzzle.edges.length, trained.edges, "edge", "edges");
  if (question.hops !== null) differs(question.hops, trained.hops, "hop", "hops");
  const parents = puzzle.nodes.map((_, node) =>
    puzzle.edges.filter(([, child]) => child === node).length);
  const most = Math.max(...parents);
  if (most > trained.parents) {
    found.push(`A node has ${most} parents; in training at most ${trained.parents}.`);
  }
  if (question.targets.length !== 1) {
    const what = question.targets.length === 0 ? "Neither" : "Each";
    found.push(`${what} of the candidates can be reached; in training exactly one could.`);
  }
  if (isCircular(puzzle)) found.push("The edges lead in a circle; in training none did.");
  return found;
}

// Nodes without an open parent are taken away until none is left to take.
function isCircular({ nodes, edges }) {
  let [left, open] = [nodes.map((_, node) => node), edges];
  for (;;) {
    const next = left.filter((node) => open.some(([, child]) => child === node));
    if (next.length === left.length) return left.length > 0;
    left = next;
    open = open.filter(([parent]) => left.includes(parent));
  }
}

// "6, 10 or 14"
function listed(values) {
  return values.length === 1 ? `${values[0]}` :
    `${values.slice(0, -1).join(", ")} or ${values.at(-1)}`;
}
