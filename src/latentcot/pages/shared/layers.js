// Where the nodes stand: two families side by side, each in layers by distance from its root.
// x counts places from the left, y counts layers from the top; graph.js turns both into pixels.

const FAMILY_GAP = 0.6;

// The plan of a question: depths, the two families, and a place for every node.
function planOf(question) {
  const nodes = question.nodes.map((_, node) => node);
  const reached = distancesFrom([question.root], question.edges);
  const others = nodes.filter((node) => !reached.has(node));
  const otherRoots = rootsAmong(others, question.edges);
  const depths = new Map([...distancesFrom(otherRoots, question.edges), ...reached]);
  const families = [[...reached.keys()], others].map((members) =>
    orderedLayers(members, depths, question.edges));
  const places = placesOf(families);
  return { ...places, depths, otherRoots: new Set(otherRoots), isReached: (n) => reached.has(n) };
}

function distancesFrom(starts, edges) {
  const distances = new Map(starts.map((node) => [node, 0]));
  let frontier = starts;
  for (let depth = 1; frontier.length > 0; depth += 1) {
    const held = new Set(frontier);
    frontier = [];
    for (const [parent, child] of edges) {
      if (!held.has(parent) || distances.has(child)) continue;
      distances.set(child, depth);
      frontier.push(child);
    }
  }
  return distances;
}

function rootsAmong(nodes, edges) {
  const children = new Set(edges.map(([, child]) => child));
  return nodes.filter((node) => !children.has(node));
}

function orderedLayers(members, depths, edges) {
  const layers = [];
  for (const node of members) {
    const depth = depths.get(node) ?? 0;
    (layers[depth] ??= []).push(node);
  }
  const full = Array.from(layers, (layer) => layer ?? []);
  const neighbours = neighboursWithin(members, edges);
  for (let sweep = 0; sweep < 6; sweep += 1) {
    const isDown = sweep % 2 === 0;
    for (let k = 1; k < full.length; k += 1) {
      const here = isDown ? k : full.length - 1 - k;
      sortByNeighbours(full[here], full[isDown ? here - 1 : here + 1], neighbours);
    }
  }
  return full;
}

function neighboursWithin(members, edges) {
  const neighbours = new Map(members.map((node) => [node, new Set()]));
  for (const [parent, child] of edges) {
    if (!neighbours.has(parent) || !neighbours.has(child)) continue;
    neighbours.get(parent).add(child);
    neighbours.get(child).add(parent);
  }
  return neighbours;
}

// Nodes move to the mean place of their neighbours in the fixed layer: fewer crossings.
function sortByNeighbours(layer, fixedLayer, neighbours) {
  const place = (node, own) => {
    const spots = fixedLayer.flatMap((other, k) =>
      (neighbours.get(node).has(other) ? [(k + 0.5) / fixedLayer.length] : []));
    if (spots.length === 0) return (own + 0.5) / layer.length;
    return spots.reduce((sum, spot) => sum + spot, 0) / spots.length;
  };
  const wanted = new Map(layer.map((node, own) => [node, place(node, own)]));
  layer.sort((a, b) => wanted.get(a) - wanted.get(b));
}

function placesOf(families) {
  const places = new Map();
  const blocks = [];
  let left = 0;
  for (const layers of families) {
    if (layers.length === 0) continue;
    const width = Math.max(1, ...layers.map((layer) => layer.length));
    layers.forEach((layer, y) => layer.forEach((node, k) => {
      const x = left + (width - layer.length) / 2 + k + 0.5;
      places.set(node, { x, y, side: k < (layer.length - 1) / 2 ? -1 : 1, isOdd: k % 2 === 1 });
    }));
    blocks.push({ left, width, numLayers: layers.length });
    left += width + FAMILY_GAP;
  }
  const numLayers = Math.max(...blocks.map((block) => block.numLayers));
  return { places, blocks, width: left - FAMILY_GAP, numLayers };
}
