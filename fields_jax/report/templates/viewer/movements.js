/* What to call the movements of a head, and how to group them. */
Fields.movements = (() => {
  const GROUPS = {
    Brows: /^brows?(?=[A-Z_]|$)/,
    Eyes: /^eyes?(?=[A-Z_]|lid|$)/,
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

  /* Least and largest value of a slider: ARKit's and lids are shares of a whole movement, others
     are in standard deviations. */
  function range(name, unit) {
    return unit === "expression" && !name.startsWith("eyelid") ? [-3, 3] : [0, 1];
  }

  return { groups: [...Object.keys(GROUPS), OTHER], describe, range };
})();
