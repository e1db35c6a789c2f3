/* Plays the clips of a file: play, pause, and a slider for the time. */
Fields.Player = (() => {
  const clock = (seconds) => {
    const tenths = Math.round(10 * seconds);
    const [minutes, rest] = [Math.floor(tenths / 600), tenths % 600];
    return `${minutes}:${String(Math.floor(rest / 10)).padStart(2, "0")}.${rest % 10}`;
  };

  return class Player {
    /* `moved(clip, time)` is called whenever the time changes. */
    constructor({ bar, play, clip, time, shown }, moved) {
      Object.assign(this, { bar, button: play, choice: clip, slider: time, shown, moved });
      this.clips = [];
      this.button.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
      this.slider.addEventListener("input", () => {
        const time = this.slider.valueAsNumber;
        this.pause();
        this.go(time);
      });
      this.choice.addEventListener("change", () => {
        this.pause();
        this.choose(this.choice.selectedIndex);
        this.go(0);
      });
    }

    /* Takes the clips of a model; without any the bar is hidden. */
    load(clips) {
      this.pause();
      this.clips = clips.filter(({ duration }) => duration > 0);
      this.bar.hidden = this.clips.length === 0;
      this.choice.hidden = this.clips.length < 2;
      this.choice.replaceChildren(...this.clips.map(({ name }) => new Option(name)));
      if (this.clips.length) this.choose(0);
    }

    choose(index) {
      this.clip = this.clips[index];
      [this.slider.max, this.time] = [this.clip.duration, 0];
      this.say();
    }

    go(time) {
      this.time = time;
      this.moved(this.clip, time);
      this.say();
    }

    play() {
      this.playing = true;
      this.say();
      let before = null;
      const step = (now) => {
        if (!this.playing) return;
        const passed = before === null ? 0 : (now - before) / 1000;
        before = now;
        this.go((this.time + passed) % this.clip.duration);
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }

    pause() {
      this.playing = false;
      if (this.clip) this.say();
    }

    say() {
      this.slider.value = this.time;
      const text = `${clock(this.time)} / ${clock(this.clip.duration)}`;
      this.slider.setAttribute("aria-valuetext", text);
      this.shown.textContent = text;
      this.button.textContent = this.playing ? "Pause" : "Play";
    }
  };
})();
