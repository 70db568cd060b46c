// Recording a clip: resolves to a Blob, or to null where the user goes back. Rejects where there is no camera.
const LONGEST = 60; // seconds

export async function record({ preview, shoot, leave, clock }, most) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: false });
  const limit = Math.min(LONGEST, most);
  let timer = 0;
  try {
    preview.srcObject = stream;
    await preview.play();
    shoot.textContent = "Start recording";
    clock.textContent = "";
    shoot.focus();
    if ((await pressed(shoot, leave)) === leave) return null;

    const parts = [];
    const recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve));
    recorder.start();
    const start = performance.now();
    shoot.textContent = "Stop and read";
    timer = setInterval(() => {
      const seconds = (performance.now() - start) / 1000;
      clock.textContent = `● ${seconds.toFixed(0)} s of at most ${limit} s`;
      if (seconds >= limit - 0.5) shoot.click();
    }, 200);
    const button = await pressed(shoot, leave);
    recorder.stop();
    await stopped;
    return button === leave ? null : new Blob(parts, { type: recorder.mimeType });
  } finally {
    clearInterval(timer);
    preview.srcObject = null;
    for (const track of stream.getTracks()) track.stop();
  }
}

function pressed(...buttons) {
  return new Promise((resolve) => {
    const ended = new AbortController();
    for (const button of buttons)
      button.addEventListener("click", () => (ended.abort(), resolve(button)), { signal: ended.signal });
  });
}
