// Products of int8 matrices and float32 vectors, where all the time goes: in WebAssembly with SIMD
// (kernel.wat), which is 8 times as fast, or in JavaScript where a browser has none.

const KERNEL = "kernel.wasm in base64"; // make_page.py puts it here
const PAGE_OF_MEMORY = 65536;

/** Bytes of a base64 text; throws where it is none. */
export function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

export class Products {
  /** `weights` hold all matrices; the largest one has `rows` rows and a stride of `columns`. */
  constructor(weights, rows, columns) {
    this.x = Math.ceil(weights.length / 16) * 16; // addresses: behind the weights the vector,
    this.y = this.x + 4 * columns; // and the product
    const pages = Math.ceil((this.y + 4 * rows) / PAGE_OF_MEMORY);
    try {
      this.memory = new WebAssembly.Memory({ initial: pages });
      const module = new WebAssembly.Module(fromBase64(KERNEL));
      const page = { memory: this.memory };
      this.kernel = new WebAssembly.Instance(module, { page }).exports.product;
      this.buffer = this.memory.buffer;
    } catch {
      this.buffer = new ArrayBuffer(pages * PAGE_OF_MEMORY);
      this.kernel = (...sizes) => this.productInJavaScript(...sizes);
    }
    this.bytes = new Uint8Array(this.buffer);
    this.bytes.set(weights);
    this.inputs = new Float32Array(this.buffer, this.x, columns);
    this.outputs = new Float32Array(this.buffer, this.y, rows);
  }

  /** matrix (n, K) times x (K,), a new vector (n,). */
  product(matrix, x) {
    this.inputs.set(x);
    this.inputs.fill(0, x.length, matrix.stride);
    this.kernel(matrix.at, this.x, this.y, matrix.rows, matrix.stride);
    const y = new Float32Array(matrix.rows);
    for (let r = 0; r < y.length; r++) y[r] = this.outputs[r] * matrix.scales[r];
    return y;
  }

  /** A row of a matrix, (K,). */
  row(matrix, r) {
    const begin = matrix.at + r * matrix.stride;
    const whole = new Int8Array(this.buffer, begin, matrix.columns);
    return Float32Array.from(whole, (number) => number * matrix.scales[r]);
  }

  productInJavaScript(w, x, y, rows, columns) {
    const weights = new Int8Array(this.buffer, w, rows * columns);
    for (let r = 0, k = 0; r < rows; r++) {
      let a = 0;
      let b = 0;
      for (let i = 0; i < columns; i += 2, k += 2) {
        a += weights[k] * this.inputs[i];
        b += weights[k + 1] * this.inputs[i + 1];
      }
      this.outputs[r] = a + b;
    }
  }
}
