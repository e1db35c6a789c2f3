/* Heads arrive as scripts: a page that was opened from a disk may read nothing else. */
Fields.data = (() => {
  /* The bytes of a base64 text. */
  function decode(text) {
    const signs = atob(text);
    const bytes = new Uint8Array(signs.length);
    for (let k = 0; k < signs.length; k++) bytes[k] = signs.charCodeAt(k);
    return bytes;
  }

  async function unpack(text) {
    if (!globalThis.DecompressionStream) {
      throw new Error("this browser is too old to unpack it");
    }
    const stream = new Blob([decode(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  let received = null;
  let queue = Promise.resolve();

  /* Called by the script of a head. */
  function receive(text) {
    received = text;
  }

  function run(address) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = () => resolve();
      script.onerror = () => reject(new Error("its file head.js is missing"));
      received = null;
      document.head.append(script);
      script.addEventListener("load", () => script.remove());
      script.addEventListener("error", () => script.remove());
    });
  }

  /* The bytes of the head whose script is at an address, one after another; null for one that is no
     longer wanted when its turn comes. */
  function load(address, wanted) {
    const text = queue.then(() => wanted() && run(address)).then((ran) => {
      if (ran === false) return null;
      if (received === null) throw new Error("its file head.js holds no head");
      const taken = received;
      received = null;
      return taken;
    });
    queue = text.catch(() => {});
    return text.then((taken) => (taken !== null && wanted() ? unpack(taken) : null));
  }

  return { load, receive, unpack };
})();
