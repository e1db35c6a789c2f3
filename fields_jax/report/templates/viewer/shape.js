/* Vertices moved by morph targets, with normals of the moved surface; on the processor, because a
   movement touches few vertices and files carry no normals of moved surfaces. */
Fields.Shape = (() => {
  /* For each vertex the first one at the same place with the same normal: seams of the texture
     double vertices, and the surface is smooth across them. */
  function welded(positions, normals) {
    const known = new Map();
    const count = positions.length / 3;
    const first = new Uint32Array(count);
    for (let row = 0; row < count; row++) {
      const at = positions.subarray(3 * row, 3 * row + 3);
      const facing = normals ? Array.from(normals.subarray(3 * row, 3 * row + 3), (x) => x.toFixed(2)) : "";
      const key = `${at.join()} ${facing}`;
      if (!known.has(key)) known.set(key, row);
      first[row] = known.get(key);
    }
    return first;
  }

  return class Shape {
    constructor(shape) {
      this.source = shape;
      this.positions = shape.positions.slice();
      this.first = welded(shape.positions, shape.normals);
      this.corners = shape.parts.map((part) => part.map((vertex) => this.first[vertex]));
      this.summed = new Float32Array(shape.positions.length);
      this.normals = new Float32Array(shape.positions.length);
      this.offset = null; // from the normals computed at rest to those of the file
      this.computeNormals();
      if (shape.normals) this.offset = shape.normals.map((value, k) => value - this.normals[k]);
      this.computeNormals();
    }

    /* Sums the targets by their weights. */
    move(weights) {
      this.positions.set(this.source.positions);
      for (const { place, index, values } of this.source.targets) {
        const weight = weights[place];
        if (!weight) continue;
        for (let k = 0; k < index.length; k++) {
          const at = 3 * index[k];
          this.positions[at] += weight * values[3 * k];
          this.positions[at + 1] += weight * values[3 * k + 1];
          this.positions[at + 2] += weight * values[3 * k + 2];
        }
      }
      this.computeNormals();
    }

    computeNormals() {
      const { positions: p, summed, normals, first, offset } = this;
      summed.fill(0);
      for (const part of this.corners) {
        for (let k = 0; k < part.length; k += 3) {
          const a = 3 * part[k];
          const b = 3 * part[k + 1];
          const c = 3 * part[k + 2];
          const [ux, uy, uz] = [p[b] - p[a], p[b + 1] - p[a + 1], p[b + 2] - p[a + 2]];
          const [vx, vy, vz] = [p[c] - p[a], p[c + 1] - p[a + 1], p[c + 2] - p[a + 2]];
          const [x, y, z] = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
          for (let corner = k; corner < k + 3; corner++) {
            const at = 3 * part[corner];
            summed[at] += x;
            summed[at + 1] += y;
            summed[at + 2] += z;
          }
        }
      }
      for (let row = 0; row < first.length; row++) {
        const [from, to] = [3 * first[row], 3 * row];
        const square = summed[from] ** 2 + summed[from + 1] ** 2 + summed[from + 2] ** 2;
        const length = Math.sqrt(square) || 1;
        for (let axis = 0; axis < 3; axis++) {
          normals[to + axis] = summed[from + axis] / length + (offset ? offset[to + axis] : 0);
        }
      }
    }
  };
})();
