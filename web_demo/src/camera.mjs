// The rear camera, and what is wrong with what it shows.

const HINT_MS = 700; // between looks at the preview
const WANTED = {
  facingMode: { ideal: "environment" },
  width: { ideal: 1920 },
  height: { ideal: 1440 },
};

export class Camera {
  // look: (ImageBitmap) => promise, called with the preview now and then.
  constructor(video, look) {
    this.video = video;
    this.look = look;
    this.stream = null;
  }

  get isOn() {
    return this.stream !== null;
  }

  async start() {
    if (!navigator.mediaDevices?.getUserMedia)
      throw new Error("There is no camera here: open the page over https, or choose a photo.");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: WANTED, audio: false });
    } catch (error) {
      const why = error.name === "NotAllowedError" ? "it was not allowed" : "none can be opened";
      throw new Error(`No camera: ${why}. Choose a photo instead.`);
    }
    this.video.srcObject = this.stream;
    this.video.hidden = false;
    await this.video.play();
    this.watch();
  }

  async watch() {
    const { stream } = this;
    while (this.stream === stream) {
      const bitmap = await this.picture();
      if (bitmap !== null && this.stream === stream) await this.look(bitmap).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, HINT_MS));
    }
  }

  // What it shows now; null while there is nothing.
  async picture() {
    return this.video.videoWidth > 0 ? createImageBitmap(this.video) : null;
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
    this.video.hidden = true;
  }
}
