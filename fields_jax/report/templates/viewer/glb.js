/* Reads the container of glTF 2.0: its JSON, its accessors as arrays, and its pictures. */
Fields.glb = (() => {
  const MAGIC = 0x46546c67; // "glTF"
  const JSON_CHUNK = 0x4e4f534a;
  const BINARY_CHUNK = 0x004e4942;
  const ARRAYS = {
    5120: Int8Array, 5121: Uint8Array, 5122: Int16Array,
    5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array,
  };
  const WIDTHS = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4, MAT4: 16 };
  const LARGEST = { 5120: 127, 5121: 255, 5122: 32767, 5123: 65535 }; // what normalised integers reach at 1
  const UNDERSTOOD = ["KHR_mesh_quantization", "KHR_materials_unlit"];

  /* The JSON and the binary chunk of an ArrayBuffer; throws an Error that says what is wrong. */
  function parse(buffer) {
    const view = new DataView(buffer);
    if (buffer.byteLength < 20 || view.getUint32(0, true) !== MAGIC) throw new Error("no GLB file");
    if (view.getUint32(4, true) !== 2) throw new Error("not of version 2 of glTF");
    const chunks = {};
    for (let at = 12; at + 8 <= buffer.byteLength; ) {
      const length = view.getUint32(at, true);
      if (at + 8 + length > buffer.byteLength) throw new Error("the file ends early");
      chunks[view.getUint32(at + 4, true)] ??= new Uint8Array(buffer, at + 8, length);
      at += 8 + length;
    }
    const json = JSON.parse(new TextDecoder().decode(chunks[JSON_CHUNK]));
    const foreign = (json.extensionsRequired ?? []).filter((name) => !UNDERSTOOD.includes(name));
    if (foreign.length) throw new Error(`it requires ${foreign.join(", ")}`);
    return { json, binary: chunks[BINARY_CHUNK] };
  }

  function bytes(file, index) {
    const { byteOffset = 0, byteLength } = file.json.bufferViews[index];
    return file.binary.subarray(byteOffset, byteOffset + byteLength);
  }

  /* `count` rows of numbers as they are stored, with the padding between rows taken out. */
  function rows(file, { bufferView, byteOffset = 0, componentType }, width, count) {
    const ArrayType = ARRAYS[componentType];
    const packed = width * ArrayType.BYTES_PER_ELEMENT;
    const stride = file.json.bufferViews[bufferView].byteStride ?? packed;
    const source = bytes(file, bufferView).subarray(byteOffset);
    const out = new Uint8Array(count * packed);
    if (stride === packed) out.set(source.subarray(0, out.length));
    else {
      for (let row = 0; row < count; row++) {
        out.set(source.subarray(row * stride, row * stride + packed), row * packed);
      }
    }
    return new ArrayType(out.buffer);
  }

  /* Numbers as floats; normalised integers become [0, 1] or [-1, 1]. */
  function floats(values, { componentType, normalized }) {
    if (!normalized) return Float32Array.from(values);
    const largest = LARGEST[componentType];
    return Float32Array.from(values, (value) => Math.max(value / largest, -1));
  }

  /* The rows that a sparse accessor replaces, or null: their numbers and their values as floats. */
  function replaced(file, accessor) {
    if (!accessor.sparse) return null;
    const { count, indices, values } = accessor.sparse;
    const kind = { ...values, componentType: accessor.componentType };
    return {
      index: Uint32Array.from(rows(file, indices, 1, count)),
      values: floats(rows(file, kind, WIDTHS[accessor.type], count), accessor),
    };
  }

  /* All values of an accessor as floats. */
  function read(file, number) {
    const accessor = file.json.accessors[number];
    const width = WIDTHS[accessor.type];
    const out = accessor.bufferView === undefined
      ? new Float32Array(width * accessor.count)
      : floats(rows(file, accessor, width, accessor.count), accessor);
    const sparse = replaced(file, accessor);
    sparse?.index.forEach((row, k) => {
      out.set(sparse.values.subarray(width * k, width * (k + 1)), width * row);
    });
    return out;
  }

  /* The rows of a three-column accessor that are not zero: morph targets move few vertices. */
  function readMoved(file, number) {
    const accessor = file.json.accessors[number];
    if (accessor.bufferView === undefined) {
      return replaced(file, accessor) ?? { index: new Uint32Array(0), values: new Float32Array(0) };
    }
    const all = read(file, number);
    const index = [];
    for (let row = 0; row < accessor.count; row++) {
      if (all[3 * row] || all[3 * row + 1] || all[3 * row + 2]) index.push(row);
    }
    const values = Float32Array.from(index.flatMap((row) => [...all.subarray(3 * row, 3 * row + 3)]));
    return { index: Uint32Array.from(index), values };
  }

  /* Corners of triangles; every three vertices in turn where the file has no index. */
  function readTriangles(file, number, vertices) {
    if (number === undefined) return Uint32Array.from({ length: vertices }, (_, k) => k);
    const accessor = file.json.accessors[number];
    return Uint32Array.from(rows(file, accessor, 1, accessor.count));
  }

  /* A promise of each picture, decoded. */
  function readPictures(file) {
    return Promise.all((file.json.images ?? []).map(({ bufferView, mimeType }) => {
      if (bufferView === undefined) throw new Error("a picture is outside the file");
      const blob = new Blob([bytes(file, bufferView)], { type: mimeType });
      return createImageBitmap(blob, { colorSpaceConversion: "none" });
    }));
  }

  return { parse, read, readMoved, readTriangles, readPictures };
})();
