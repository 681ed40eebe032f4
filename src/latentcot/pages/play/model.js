// A language model: its weights, and a forward pass over a cache of keys and values.

// Positions are read one after the other, each through all blocks: what stands behind a position
// cannot change it, so that this is the forward pass. Products are summed in double precision.

// --- weights -----------------------------------------------------------------------------------

function openModel({ shape, weights }) {
  const numbers = decodeNumbers(weights);
  const tensors = {};
  let start = 0;
  for (const [name, length] of weights.index) {
    tensors[name] = numbers.subarray(start, start + length);
    start += length;
  }
  return { shape, tensors };
}

function decodeNumbers({ dtype, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  if (dtype === "float16") {
    return Float32Array.from({ length: bytes.length / 2 }, (_, k) => half(view.getUint16(2 * k, true)));
  }
  return Float32Array.from({ length: bytes.length / 4 }, (_, k) => view.getFloat32(4 * k, true));
}

// Sign, 5 bits of exponent, 10 of fraction.
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// --- reading -----------------------------------------------------------------------------------

// What has been read so far: keys and values of each block, a position behind the other.
function emptyCache({ shape }) {
  const block = () => new Float32Array(shape.num_positions * shape.num_kv_heads * shape.head_size);
  const blocks = Array.from({ length: shape.num_layers }, () => ({ keys: block(), values: block() }));
  return { length: 0, blocks };
}

// The row of the embedding table of a token.
function embeddingOf({ shape, tensors }, token) {
  return tensors.embed.slice(token * shape.width, (token + 1) * shape.width);
}

// The row of the output head of a token.
function headRow({ shape, tensors }, token) {
  return (tensors.head ?? tensors.embed).subarray(token * shape.width, (token + 1) * shape.width);
}

// Read one more vector; return the last hidden state at its position, behind the last norm.
function readVector(model, cache, vector) {
  const { shape, tensors } = model;
  const hidden = Float32Array.from(vector);
  if (tensors.positions) addTo(hidden, tensors.positions.subarray(cache.length * shape.width));
  for (let layer = 0; layer < shape.num_layers; layer += 1) {
    addTo(hidden, attend(model, layer, cache, norm(model, `${layer}.attention_norm`, hidden)));
    addTo(hidden, feedForward(model, layer, norm(model, `${layer}.mlp_norm`, hidden)));
  }
  cache.length += 1;
  return norm(model, "norm", hidden);
}

function addTo(vector, other) {
  for (let i = 0; i < vector.length; i += 1) vector[i] += other[i];
}

function attend(model, layer, cache, hidden) {
  const { shape } = model;
  const { keys, values } = cache.blocks[layer];
  const { head_size: size, num_heads: numHeads, num_kv_heads: numShared } = shape;
  const query = linear(model, `${layer}.query`, hidden);
  const key = linear(model, `${layer}.key`, hidden);
  normHeads(model, `${layer}.query_norm`, query);
  normHeads(model, `${layer}.key_norm`, key);
  if (shape.theta !== null) for (const one of [query, key]) rotate(one, cache.length, shape);
  const row = numShared * size;
  keys.set(key, cache.length * row);
  values.set(linear(model, `${layer}.value`, hidden), cache.length * row);
  const seen = new Float32Array(numHeads * size);
  for (let head = 0; head < numHeads; head += 1) {
    const from = head * size;
    const shared = Math.floor((head * numShared) / numHeads) * size;
    const scores = new Float64Array(cache.length + 1);
    for (let position = 0; position <= cache.length; position += 1) {
      const at = position * row + shared;
      for (let i = 0; i < size; i += 1) scores[position] += query[from + i] * keys[at + i];
      scores[position] /= Math.sqrt(size);
    }
    const shares = softmax(scores);
    for (let i = 0; i < size; i += 1) {
      let sum = 0;
      for (let position = 0; position <= cache.length; position += 1) {
        sum += shares[position] * values[position * row + shared + i];
      }
      seen[from + i] = sum;
    }
  }
  return linear(model, `${layer}.out`, seen);
}

// Rotary positions: the halves of each head are turned by angles that grow with the position.
function rotate(vector, position, { head_size: size, theta }) {
  const half = size / 2;
  for (let start = 0; start < vector.length; start += size) {
    for (let i = 0; i < half; i += 1) {
      const angle = position * theta ** (-i / half);
      const [a, b] = [vector[start + i], vector[start + half + i]];
      vector[start + i] = a * Math.cos(angle) - b * Math.sin(angle);
      vector[start + half + i] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
}

function feedForward(model, layer, hidden) {
  const inner = linear(model, `${layer}.up`, hidden);
  const gate = model.tensors[`${layer}.gate`] ? linear(model, `${layer}.gate`, hidden) : null;
  for (let i = 0; i < inner.length; i += 1) {
    inner[i] = gate ? inner[i] * silu(gate[i]) : gelu(inner[i]);
  }
  return linear(model, `${layer}.down`, inner);
}

function silu(x) {
  return x / (1 + Math.exp(-x));
}

function gelu(x) {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function linear({ tensors }, name, vector) {
  const weight = tensors[name];
  const bias = tensors[`${name}_bias`];
  const width = vector.length;
  const result = new Float32Array(weight.length / width);
  for (let row = 0; row < result.length; row += 1) {
    let sum = bias ? bias[row] : 0;
    for (let i = 0, at = row * width; i < width; i += 1) sum += weight[at + i] * vector[i];
    result[row] = sum;
  }
  return result;
}

// Layer norm, or by the root mean square alone.
function norm({ shape, tensors }, name, vector) {
  const weight = tensors[name];
  const bias = tensors[`${name}_bias`];
  let mean = 0;
  if (shape.norm === "layer") for (const x of vector) mean += x / vector.length;
  let square = 0;
  for (const x of vector) square += (x - mean) ** 2 / vector.length;
  const factor = 1 / Math.sqrt(square + shape.epsilon);
  return vector.map((x, i) => (x - mean) * factor * weight[i] + (bias ? bias[i] : 0));
}

// Queries and keys of Qwen3 are normed head by head.
function normHeads(model, name, vector) {
  if (!model.tensors[name]) return;
  const size = model.shape.head_size;
  for (let start = 0; start < vector.length; start += size) {
    vector.set(norm(model, name, vector.subarray(start, start + size)), start);
  }
}

// --- the output head ---------------------------------------------------------------------------

function logitsOf(model, state) {
  const numTokens = model.tensors.embed.length / model.shape.width;
  return Float32Array.from({ length: numTokens }, (_, token) => {
    const row = headRow(model, token);
    let sum = 0;
    for (let i = 0; i < row.length; i += 1) sum += row[i] * state[i];
    return sum;
  });
}

function softmax(scores) {
  const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Float64Array.from(scores, (score) => Math.exp(score - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

function largest(values) {
  return values.reduce((best, value, k) => (value > values[best] ? k : best), 0);
}
