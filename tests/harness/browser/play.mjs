// Opens a page in Chromium, waits until its <video> has advanced, prints one JSON line.
// node play.mjs MODULES_DIR URL SECONDS SCREENSHOT
import { conclude, launch, pause } from "./browser.mjs";

const [modules, url, seconds, screenshot] = process.argv.slice(2);
const session = await launch(modules);
const { page, errors } = session;
const result = { played: 0, frames: 0, dropped: 0, width: 0, startup_ms: null, errors };
const probe = () => {
  const video = document.querySelector("#video");
  if (!video) return null;
  const quality = video.getVideoPlaybackQuality?.();
  return {
    time: video.currentTime, width: video.videoWidth, error: video.error?.message ?? null,
    frames: quality?.totalVideoFrames ?? 0, dropped: quality?.droppedVideoFrames ?? 0,
  };
};
try {
  const opened = Date.now();
  await page.goto(url, { waitUntil: "domcontentloaded", timeout: 10000 });
  let start = null;
  while (Date.now() - opened < 10000 + 3000 * Number(seconds)) {
    const now = await page.evaluate(probe);
    if (now?.error) { errors.push(now.error); break; }
    if (now && now.time > 0 && now.frames > 0) {
      start ??= (result.startup_ms = Date.now() - opened, now.time);
      Object.assign(result, { played: now.time - start, width: now.width,
        frames: now.frames, dropped: now.dropped });
      if (result.played >= Number(seconds)) break;
    }
    await pause(50);
  }
} catch (error) {
  errors.push(String(error));
}
await conclude(session, result, screenshot);
