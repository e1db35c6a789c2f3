/* A glTF scene as the viewer needs it: nodes, shapes that can move, what to draw, clips. */
Fields.model = (() => {
  const { read, readMoved, readTriangles } = Fields.glb;
  const TRIANGLES = 4;
  const PHOTOGRAPH = "photograph_camera"; // the node of the camera whose frame is the photograph

  const nodeOf = (node, index) => ({
    index,
    name: node.name ?? `node ${index}`,
    children: node.children ?? [],
    matrix: node.matrix ? Float32Array.from(node.matrix) : null,
    translation: node.translation ?? [0, 0, 0],
    rotation: node.rotation ?? [0, 0, 0, 1],
    scale: node.scale ?? [1, 1, 1],
    mesh: node.mesh,
    skin: node.skin,
  });

  /* Nodes, parents before their children. */
  function ordered(nodes, roots) {
    const found = [];
    const visit = (index, parent) => {
      found.push({ node: nodes[index], parent });
      nodes[index].children.forEach((child) => visit(child, index));
    };
    roots.forEach((root) => visit(root, -1));
    return found;
  }

  const targetNames = (mesh) => {
    const count = mesh.primitives[0].targets?.length ?? 0;
    return Array.from({ length: count }, (_, k) => mesh.extras?.targetNames?.[k] ?? `target ${k}`);
  };

  /* The vertices of a primitive, and what moves them; primitives with the same vertices share it. */
  function shapeOf(file, primitive, places) {
    const { POSITION, NORMAL, TEXCOORD_0, JOINTS_0, WEIGHTS_0 } = primitive.attributes;
    const optional = (number) => (number === undefined ? null : read(file, number));
    return {
      positions: read(file, POSITION),
      normals: optional(NORMAL),
      uv: optional(TEXCOORD_0),
      joints: optional(JOINTS_0),
      weights: optional(WEIGHTS_0),
      targets: (primitive.targets ?? []).flatMap((target, k) => (
        target.POSITION === undefined ? [] : [{ place: places[k], ...readMoved(file, target.POSITION) }]
      )),
      parts: [],
    };
  }

  function materialOf(json, index) {
    const material = json.materials?.[index] ?? {};
    const surface = material.pbrMetallicRoughness ?? {};
    const texture = json.textures?.[surface.baseColorTexture?.index];
    return {
      name: material.name ?? "",
      color: surface.baseColorFactor ?? [1, 1, 1, 1],
      picture: texture?.source ?? null,
      repeats: json.samplers?.[texture?.sampler]?.wrapS !== 33071, // CLAMP_TO_EDGE
      roughness: surface.roughnessFactor ?? 1,
      unlit: Boolean(material.extensions?.KHR_materials_unlit),
      twoSided: material.doubleSided ?? false,
      alpha: material.alphaMode ?? "OPAQUE",
      cutoff: material.alphaMode === "MASK" ? (material.alphaCutoff ?? 0.5) : 0,
    };
  }

  function clipOf(file, animation, index) {
    const channels = animation.channels
      .filter(({ target }) => target.node !== undefined)
      .map(({ sampler, target }) => {
        const { input, output, interpolation = "LINEAR" } = animation.samplers[sampler];
        const [times, values] = [read(file, input), read(file, output)];
        return { node: target.node, path: target.path, interpolation, times, values };
      });
    const duration = Math.max(0, ...channels.map(({ times }) => times[times.length - 1]));
    return { name: animation.name ?? `clip ${index + 1}`, duration, channels };
  }

  /* Weights of all meshes as one list by name: a name of two meshes is one movement. */
  function movementsOf(json) {
    const names = [];
    const defaults = [];
    const places = (json.meshes ?? []).map((mesh) => targetNames(mesh).map((name, k) => {
      if (!names.includes(name)) {
        names.push(name);
        defaults.push(mesh.weights?.[k] ?? 0);
      }
      return names.indexOf(name);
    }));
    const unit = json.meshes?.find((mesh) => mesh.extras?.morphs)?.extras.morphs ?? "arkit";
    return { names, unit, defaults: Float32Array.from(defaults), places };
  }

  /* The camera of the photograph: half its frame in metres, and where its middle is; or null. */
  function cameraOf(json) {
    const node = (json.nodes ?? []).find(({ name }) => name === PHOTOGRAPH);
    const lens = json.cameras?.[node?.camera]?.orthographic;
    return lens ? { half: [lens.xmag, lens.ymag], place: node.translation ?? [0, 0, 0], lens } : null;
  }

  /* Throws an Error that says what is wrong with the file. */
  function build(file) {
    const { json } = file;
    const nodes = (json.nodes ?? []).map(nodeOf);
    const roots = json.scenes?.[json.scene ?? 0]?.nodes ?? [];
    const order = ordered(nodes, roots);
    const movements = movementsOf(json);
    const shapes = new Map();
    const draws = [];
    for (const { node } of order.filter((each) => each.node.mesh !== undefined)) {
      for (const primitive of json.meshes[node.mesh].primitives) {
        if ((primitive.mode ?? TRIANGLES) !== TRIANGLES) continue;
        const key = JSON.stringify([primitive.attributes, primitive.targets]);
        if (!shapes.has(key)) shapes.set(key, shapeOf(file, primitive, movements.places[node.mesh]));
        const shape = shapes.get(key);
        const triangles = readTriangles(file, primitive.indices, shape.positions.length / 3);
        shape.parts.push(triangles);
        draws.push({ node, shape, triangles, material: materialOf(json, primitive.material) });
      }
    }
    if (!draws.length) throw new Error("no triangles in it");
    return {
      nodes,
      order,
      camera: cameraOf(json),
      draws,
      shapes: [...shapes.values()],
      movements,
      skins: (json.skins ?? []).map(({ joints, inverseBindMatrices }) => ({
        joints,
        inverse: inverseBindMatrices === undefined ? null : read(file, inverseBindMatrices),
      })),
      clips: (json.animations ?? []).map((each, index) => clipOf(file, each, index)),
    };
  }

  return { build };
})();
