/* Draws a posed model with WebGL2. */
Fields.Renderer = (() => {
  const CLAY = [0.62, 0.58, 0.54, 1]; // of surfaces without their photograph, linear light
  const ATTRIBUTES = { positions: [0, 3], normals: [1, 3], uv: [2, 2], joints: [3, 4], weights: [4, 4] };
  const NEARER = 2e-4; // edges before the surface that they are of, in depth of the clip space

  /* Each edge once, as pairs of vertices. */
  function edgesOf(triangles) {
    const known = new Set();
    const pairs = [];
    for (let k = 0; k < triangles.length; k += 3) {
      for (const [a, b] of [[0, 1], [1, 2], [2, 0]]) {
        const [p, q] = [triangles[k + a], triangles[k + b]];
        const key = p < q ? p * 2 ** 26 + q : q * 2 ** 26 + p;
        if (!known.has(key)) {
          known.add(key);
          pairs.push(p, q);
        }
      }
    }
    return Uint32Array.from(pairs);
  }

  return class Renderer {
    /* What draws on a canvas, or null where the browser has no WebGL2. */
    static contextOf(canvas) {
      return canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true });
    }

    constructor(gl) {
      [this.gl, this.canvas] = [gl, gl.canvas];
      this.prepare();
    }

    /* Everything that a lost context takes with it, but for the model. */
    prepare() {
      const { gl } = this;
      this.surface = Fields.shaders.surface(gl);
      this.edges = Fields.shaders.edges(gl);
      this.blank = this.textureOf(new ImageData(new Uint8ClampedArray([255, 255, 255, 255]), 1), false);
      this.scene = null;
    }

    /* Takes a model; the pictures are those of its file, decoded. */
    load(model, pictures) {
      this.unload();
      const { gl } = this;
      const wraps = new Map(model.draws.map(({ material }) => [material.picture, material.repeats]));
      const textures = pictures.map((each, k) => this.textureOf(each, wraps.get(k) ?? true));
      const shapes = new Map(model.shapes.map((source) => [source, this.buffersOf(source)]));
      const draws = model.draws.map(({ node, shape, triangles, material }) => ({
        node,
        shape: shapes.get(shape),
        material,
        texture: textures[material.picture] ?? this.blank,
        triangles: this.indexOf(triangles),
        edges: this.indexOf(edgesOf(triangles)),
      }));
      draws.sort((a, b) => (a.material.alpha === "BLEND") - (b.material.alpha === "BLEND"));
      this.scene = { textures, shapes: [...shapes.values()], draws };
      for (const { joints } of model.skins) {
        if (joints.length > Fields.shaders.BONES) throw new Error("more joints than can be drawn");
      }
      gl.bindVertexArray(null);
    }

    unload() {
      if (!this.scene) return;
      const { gl } = this;
      const { textures, shapes, draws } = this.scene;
      textures.forEach((each) => gl.deleteTexture(each));
      for (const { vertices, buffers } of shapes) {
        gl.deleteVertexArray(vertices);
        Object.values(buffers).forEach((each) => gl.deleteBuffer(each));
      }
      draws.forEach(({ triangles, edges }) => {
        [triangles, edges].forEach(({ buffer }) => gl.deleteBuffer(buffer));
      });
      this.scene = null;
    }

    textureOf(picture, repeats) {
      const { gl } = this;
      const texture = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.SRGB8_ALPHA8, gl.RGBA, gl.UNSIGNED_BYTE, picture);
      gl.generateMipmap(gl.TEXTURE_2D);
      const wrap = repeats ? gl.REPEAT : gl.CLAMP_TO_EDGE;
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, wrap);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, wrap);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
      return texture;
    }

    buffersOf(source) {
      const { gl } = this;
      const shape = new Fields.Shape(source);
      const vertices = gl.createVertexArray();
      gl.bindVertexArray(vertices);
      const arrays = { ...source, positions: shape.positions, normals: shape.normals };
      const buffers = {};
      for (const [name, [location, width]] of Object.entries(ATTRIBUTES)) {
        if (!arrays[name]) continue;
        buffers[name] = gl.createBuffer();
        gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
        gl.bufferData(gl.ARRAY_BUFFER, arrays[name], gl.DYNAMIC_DRAW);
        gl.enableVertexAttribArray(location);
        gl.vertexAttribPointer(location, width, gl.FLOAT, false, 0, 0);
      }
      if (!arrays.weights) gl.vertexAttrib4f(ATTRIBUTES.weights[0], 1, 0, 0, 0);
      return { shape, vertices, buffers };
    }

    indexOf(corners) {
      const { gl } = this;
      const buffer = gl.createBuffer();
      gl.bindVertexArray(null);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
      return { buffer, count: corners.length };
    }

    /* The shapes as they are now, by those of the model. */
    get moved() {
      return new Map(this.scene.shapes.map(({ shape }) => [shape.source, shape]));
    }

    /* Moves the vertices by the weights of the movements. */
    move(weights) {
      const { gl } = this;
      for (const { shape, buffers } of this.scene.shapes) {
        shape.move(weights);
        for (const name of ["positions", "normals"]) {
          gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
          gl.bufferSubData(gl.ARRAY_BUFFER, 0, shape[name]);
        }
      }
    }

    /* Draws a pose as a camera sees it; `look` says what of { texture, wireframe } shows. */
    draw(pose, { view, projection }, look) {
      const { gl, canvas, scene } = this;
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      if (!scene) return;
      gl.enable(gl.DEPTH_TEST);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      const matrices = pose.matrices();
      for (const draw of scene.draws) {
        const bones = pose.bones(draw.node, matrices);
        const packed = new Float32Array(16 * bones.length);
        bones.forEach((bone, k) => packed.set(bone, 16 * k));
        gl.bindVertexArray(draw.shape.vertices);
        this.drawSurface(draw, packed, { view, projection }, look);
        if (look.wireframe) this.drawEdges(draw, packed, { view, projection }, look);
      }
      gl.bindVertexArray(null);
    }

    use({ program, at }, bones, { view, projection }, nearer) {
      const { gl } = this;
      gl.useProgram(program);
      gl.uniformMatrix4fv(at.bones, false, bones);
      gl.uniformMatrix4fv(at.view, false, view);
      gl.uniformMatrix4fv(at.projection, false, projection);
      gl.uniform1f(at.nearer, nearer);
    }

    drawSurface({ material, texture, triangles }, bones, camera, look) {
      const { gl, surface } = this;
      const { at } = surface;
      const photographed = material.picture !== null;
      const pictured = photographed && look.texture;
      this.use(surface, bones, camera, 0);
      gl.uniform4fv(at.color, photographed && !look.texture ? CLAY : material.color);
      gl.uniform1f(at.pictured, pictured ? 1 : 0);
      gl.uniform1f(at.cutoff, look.texture ? material.cutoff : 0);
      gl.uniform1f(at.lit, material.unlit && pictured ? 0 : pictured ? 0.5 : 1);
      gl.uniform1f(at.gloss, material.roughness < 0.5 ? 0.5 : pictured ? 0 : 0.04);
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniform1i(at.picture, 0);
      if (material.twoSided) gl.disable(gl.CULL_FACE);
      else gl.enable(gl.CULL_FACE);
      gl.depthMask(material.alpha !== "BLEND");
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, triangles.buffer);
      gl.drawElements(gl.TRIANGLES, triangles.count, gl.UNSIGNED_INT, 0);
      gl.depthMask(true);
    }

    drawEdges({ edges }, bones, camera, look) {
      const { gl } = this;
      this.use(this.edges, bones, camera, NEARER);
      gl.uniform4fv(this.edges.at.color, look.edges);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, edges.buffer);
      gl.drawElements(gl.LINES, edges.count, gl.UNSIGNED_INT, 0);
    }
  };
})();
