/* Matrices [16] column by column, quaternions [x, y, z, w] and vectors, as glTF and WebGL order them. */
Fields.maths = (() => {
  const identity = () => new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);

  function multiply(a, b, out = new Float32Array(16)) {
    for (let column = 0; column < 4; column++) {
      const [x, y, z, w] = b.subarray(4 * column, 4 * column + 4);
      for (let row = 0; row < 4; row++) {
        out[4 * column + row] = a[row] * x + a[4 + row] * y + a[8 + row] * z + a[12 + row] * w;
      }
    }
    return out;
  }

  /* Translation, rotation and scale as one matrix. */
  function compose([tx, ty, tz], [x, y, z, w], [sx, sy, sz]) {
    return new Float32Array([
      sx * (1 - 2 * (y * y + z * z)), sx * 2 * (x * y + z * w), sx * 2 * (x * z - y * w), 0,
      sy * 2 * (x * y - z * w), sy * (1 - 2 * (x * x + z * z)), sy * 2 * (y * z + x * w), 0,
      sz * 2 * (x * z + y * w), sz * 2 * (y * z - x * w), sz * (1 - 2 * (x * x + y * y)), 0,
      tx, ty, tz, 1,
    ]);
  }

  /* From the eye at `distance` before the target; azimuth turns to the right, elevation up. */
  function orbit(azimuth, elevation, distance, [x, y, z]) {
    const [ca, sa] = [Math.cos(azimuth), Math.sin(azimuth)];
    const [ce, se] = [Math.cos(elevation), Math.sin(elevation)];
    const rows = [[ca, 0, -sa], [-sa * se, ce, -ca * se], [sa * ce, se, ca * ce]];
    const moved = rows.map((row) => -(row[0] * x + row[1] * y + row[2] * z));
    return new Float32Array([
      rows[0][0], rows[1][0], rows[2][0], 0,
      rows[0][1], rows[1][1], rows[2][1], 0,
      rows[0][2], rows[1][2], rows[2][2], 0,
      moved[0], moved[1], moved[2] - distance, 1,
    ]);
  }

  function perspective(fieldOfView, aspect, near, far) {
    const f = 1 / Math.tan(fieldOfView / 2);
    const out = new Float32Array(16);
    [out[0], out[5], out[10]] = [f / aspect, f, (near + far) / (near - far)];
    [out[11], out[14]] = [-1, (2 * near * far) / (near - far)];
    return out;
  }

  /* A box before a camera that looks along -z: [left, right], [bottom, top], [near, far]. */
  function orthographic(...sides) {
    const out = identity();
    sides.forEach(([low, high], k) => {
      out[5 * k] = (k === 2 ? -2 : 2) / (high - low);
      out[12 + k] = -(high + low) / (high - low);
    });
    return out;
  }

  function normalize(vector) {
    const length = Math.hypot(...vector) || 1;
    return vector.map((each) => each / length);
  }

  /* Between two unit quaternions, the short way round. */
  function slerp(a, b, share) {
    let cosine = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
    const sign = cosine < 0 ? -1 : 1;
    cosine *= sign;
    if (cosine > 0.9995) return normalize([0, 1, 2, 3].map((k) => a[k] + share * (sign * b[k] - a[k])));
    const angle = Math.acos(cosine);
    const [p, q] = [Math.sin((1 - share) * angle), sign * Math.sin(share * angle)];
    return [0, 1, 2, 3].map((k) => (p * a[k] + q * b[k]) / Math.sin(angle));
  }

  return { identity, multiply, compose, orbit, perspective, orthographic, normalize, slerp };
})();
