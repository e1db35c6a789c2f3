/* Where the nodes of a model are: as its file says, at neutral, or at a time of a clip. */
Fields.Pose = (() => {
  const { compose, identity, multiply, normalize, slerp } = Fields.maths;
  const HEAD = "head_pose"; // the node that turns the head as the photograph has it

  /* The key before a time, and how far the time is on the way to the next key, 0 to 1. */
  function place(times, time) {
    let [low, high] = [0, times.length - 1];
    if (time <= times[0] || high === 0) return [0, 0];
    if (time >= times[high]) return [high, 0];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (times[middle] <= time) low = middle;
      else high = middle;
    }
    return [low, (time - times[low]) / (times[high] - times[low])];
  }

  /* The value of a channel at a time, one entry per component. */
  function sample({ times, values, interpolation, path }, time) {
    const spline = interpolation === "CUBICSPLINE";
    const width = values.length / times.length / (spline ? 3 : 1);
    const [key, share] = place(times, time);
    const row = (index, part = 0) => {
      const from = width * (spline ? 3 * index + part : index);
      return [...values.subarray(from, from + width)];
    };
    if (spline) return splined(row, times, key, share, path);
    if (share === 0 || interpolation === "STEP") return row(key);
    const [before, after] = [row(key), row(key + 1)];
    if (path === "rotation") return slerp(before, after, share);
    return before.map((value, k) => value + share * (after[k] - value));
  }

  /* Parts of a row: 0 tangent in, 1 value, 2 tangent out. */
  function splined(row, times, key, share, path) {
    if (share === 0) return row(key, 1);
    const [span, s2, s3] = [times[key + 1] - times[key], share ** 2, share ** 3];
    const [start, out, end, into] = [row(key, 1), row(key, 2), row(key + 1, 1), row(key + 1, 0)];
    const mixed = start.map((value, k) => (2 * s3 - 3 * s2 + 1) * value
      + span * (s3 - 2 * s2 + share) * out[k]
      + (3 * s2 - 2 * s3) * end[k] + span * (s3 - s2) * into[k]);
    return path === "rotation" ? normalize(mixed) : mixed;
  }

  return class Pose {
    constructor(model) {
      this.model = model;
      this.upright = false; // without the photograph's pose of the head
      this.toPhotograph();
    }

    /* The model as its file has it: the photograph's expression. */
    toPhotograph() {
      this.weights = this.model.movements.defaults.slice();
      this.moved = this.model.nodes.map(({ translation, rotation, scale }) => (
        { translation, rotation, scale }
      ));
    }

    /* No movement, every joint at rest. */
    toNeutral() {
      this.weights.fill(0);
      const turned = new Set(this.model.skins.flatMap(({ joints }) => joints));
      for (const index of turned) {
        if (this.model.nodes[index].name !== HEAD) this.moved[index].rotation = [0, 0, 0, 1];
      }
    }

    toTime(clip, time) {
      for (const channel of clip.channels) {
        const value = sample(channel, time);
        if (channel.path === "weights") {
          const places = this.model.movements.places[this.model.nodes[channel.node].mesh];
          value.forEach((weight, k) => { this.weights[places[k]] = weight; });
        } else this.moved[channel.node][channel.path] = value;
      }
    }

    get hasHeadPose() {
      return this.model.nodes.some(({ name }) => name === HEAD);
    }

    /* Matrices from nodes to the scene. */
    matrices() {
      const found = this.model.nodes.map(identity);
      for (const { node, parent } of this.model.order) {
        const { translation, rotation, scale } = this.moved[node.index];
        const still = this.upright && node.name === HEAD;
        const own = still ? identity() : (node.matrix ?? compose(translation, rotation, scale));
        found[node.index] = parent < 0 ? own : multiply(found[parent], own);
      }
      return found;
    }

    /* Matrices from the vertices of a drawn node to the scene, one per joint. */
    bones(node, matrices) {
      if (node.skin === undefined) return [matrices[node.index]];
      const { joints, inverse } = this.model.skins[node.skin];
      return joints.map((joint, k) => (
        inverse ? multiply(matrices[joint], inverse.subarray(16 * k, 16 * k + 16)) : matrices[joint]
      ));
    }
  };
})();
