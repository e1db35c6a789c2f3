/* Programs of the renderer: lit surfaces, and the edges of triangles over them. */
Fields.shaders = (() => {
  // WebGL2 promises 256 vectors of uniforms; a bone takes four, and drivers keep some.
  const BONES = 32;

  const SKINNED = `#version 300 es
    precision highp float;
    layout(location = 0) in vec3 position;
    layout(location = 1) in vec3 normal;
    layout(location = 2) in vec2 uv;
    layout(location = 3) in vec4 joints;
    layout(location = 4) in vec4 weights;
    uniform mat4 bones[${BONES}];
    uniform mat4 view, projection;
    uniform float nearer;
    out vec3 eye, facing;
    out vec2 place;
    void main() {
      mat4 bone = weights.x * bones[int(joints.x)] + weights.y * bones[int(joints.y)]
        + weights.z * bones[int(joints.z)] + weights.w * bones[int(joints.w)];
      vec4 seen = view * bone * vec4(position, 1.0);
      eye = seen.xyz;
      facing = mat3(view) * mat3(bone) * normal;
      place = uv;
      gl_Position = projection * seen;
      gl_Position.z -= nearer * gl_Position.w;
    }`;

  // Light comes from above the viewer's left shoulder, from the sky and a little from behind. A
  // photograph on the surface brings its own light along: it is shaded less than plain colour.
  const SURFACE = `#version 300 es
    precision highp float;
    in vec3 eye, facing;
    in vec2 place;
    uniform vec4 color;
    uniform sampler2D picture;
    uniform float pictured, cutoff, lit, gloss;
    out vec4 shown;
    void main() {
      vec3 n = normalize(gl_FrontFacing ? facing : -facing);
      vec3 toEye = normalize(-eye);
      vec4 base = color * mix(vec4(1.0), texture(picture, place), pictured);
      if (base.a < cutoff) discard;
      vec3 key = normalize(vec3(-0.45, 0.55, 0.75));
      float direct = max(dot(n, key), 0.0);
      float sky = 0.5 + 0.5 * n.y;
      float rim = pow(1.0 - max(dot(n, toEye), 0.0), 3.0) * max(n.y + 0.4, 0.0);
      float shine = pow(max(dot(n, normalize(key + toEye)), 0.0), 40.0) * gloss;
      float shade = 0.72 * direct + 0.34 * sky + 0.06;
      vec3 light = base.rgb * mix(1.0, shade, lit) + lit * (0.10 * rim + shine);
      vec3 low = 12.92 * light;
      vec3 high = 1.055 * pow(max(light, vec3(0.0)), vec3(1.0 / 2.4)) - 0.055;
      vec3 encoded = mix(low, high, step(0.0031308, light));
      shown = vec4(clamp(encoded, 0.0, 1.0) * base.a, base.a);
    }`;

  const EDGE = `#version 300 es
    precision highp float;
    uniform vec4 color;
    out vec4 shown;
    void main() { shown = vec4(color.rgb * color.a, color.a); }`;

  function compile(gl, vertex, fragment) {
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
      throw new Error(`a shader does not compile: ${logs.join("")}${gl.getProgramInfoLog(program)}`);
    }
    const count = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS) ?? 0;
    const names = Array.from({ length: count }, (_, k) => gl.getActiveUniform(program, k).name);
    const places = names.map((name) => [name.replace("[0]", ""), gl.getUniformLocation(program, name)]);
    return { program, at: Object.fromEntries(places) };
  }

  return {
    BONES,
    surface: (gl) => compile(gl, SKINNED, SURFACE),
    edges: (gl) => compile(gl, SKINNED, EDGE),
  };
})();
