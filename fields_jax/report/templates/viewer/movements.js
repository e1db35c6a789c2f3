/* What to call the movements of a head, and how to group them. */
Fields.movements = (() => {
  const GROUPS = {
    Brows: /^brows?(?=[A-Z_]|$)/,
    Eyes: /^eye(?:s|lids?)?(?=[A-Z_]|$)/,
    Nose: /^nose(?=[A-Z_]|$)/,
    Cheeks: /^cheeks?(?=[A-Z_]|$)/,
    Jaw: /^jaw(?=[A-Z_]|$)/,
    Mouth: /^(?:mouth|lips?)(?=[A-Z_]|$)/,
    Tongue: /^tongue(?=[A-Z_]|$)/,
  };
  const OTHER = "Other movements";
  const SIDES = { Left: "Right", Right: "Left", _L: "_R", _R: "_L", _left: "_right", _right: "_left" };
  const SIDE = /(?:Left|Right|_L|_R|_left|_right)$/;

  const words = (name) => name
    .replace(/_/g, " ")
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .toLowerCase()
    .trim();

  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

  /* The group of a movement, what to call it there, and the name of the same on the other side. */
  function describe(name) {
    const group = Object.keys(GROUPS).find((each) => GROUPS[each].test(name)) ?? OTHER;
    const rest = group === OTHER ? name : name.replace(GROUPS[group], "");
    const end = rest.match(SIDE)?.[0];
    const what = end ? rest.slice(0, -end.length) : rest;
    if (!end) return { group, label: capital(words(what || name)), twin: null };
    const side = /^_?l/i.test(end) ? "left" : "right";
    if (!what) return { group, label: `To the ${side}`, twin: null }; // a direction
    return { group, label: `${capital(words(what))}, ${side}`, twin: name.slice(0, -end.length) + SIDES[end] };
  }

  /* Least and largest value of a slider: shares of a whole movement, or standard deviations. */
  function range(names, value) {
    const shares = names.some((name) => name === "jawOpen" || name === "eyeBlinkLeft");
    const [low, high] = shares ? [0, 1] : [-3, 3];
    return [Math.min(low, Math.floor(value)), Math.max(high, Math.ceil(value))];
  }

  return { groups: [...Object.keys(GROUPS), OTHER], describe, range };
})();
