// Opens a page in Chromium, lets its <video id="video"> play live for a while and prints one JSON
// line: whether it kept real time, how often it stood still, how far behind live it was by the
// player's own account (<data id="latency">), and every complaint.
// node steady.mjs MODULES_DIR URL SECONDS SCREENSHOT
import { conclude, launch, pause, servePlayers } from "./browser.mjs";

// A player may fill its buffer and find its place before it is judged.
const SETTLE_MS = 4000;
const START_MS = 20000;

const [modules, url, seconds, screenshot] = process.argv.slice(2);
const session = await launch(modules);
const { page, errors } = session;
const result = {
  startup_ms: null, wall: 0, played: 0, stalls: 0, frames: 0, dropped: 0, latency: [], rates: [], errors,
};
page.on("response", (response) => {
  if (response.status() >= 400 && !response.url().endsWith("/favicon.ico")) {
    errors.push(`${response.status()} ${response.url()}`);
  }
});
await servePlayers(page, modules);

// Runs in the page.
const begin = () => {
  const video = document.querySelector("#video");
  const seen = { start: performance.now(), from: video.currentTime, stalls: 0 };
  const quality = () => video.getVideoPlaybackQuality();
  const { droppedVideoFrames, totalVideoFrames } = quality();
  let still = false;
  // A picture every 40 ms is due: nothing new for half a second is a stall.
  let moved = { time: video.currentTime, at: performance.now() };
  const look = () => {
    const now = performance.now();
    if (video.currentTime !== moved.time) {
      moved = { time: video.currentTime, at: now };
      still = false;
    } else if (!still && now - moved.at > 500) {
      still = true;
      seen.stalls += 1;
    }
  };
  setInterval(look, 50);
  video.addEventListener("waiting", () => { seen.stalls += 1; });
  window.steady = () => ({
    wall: (performance.now() - seen.start) / 1000,
    played: video.currentTime - seen.from,
    stalls: seen.stalls,
    frames: quality().totalVideoFrames - totalVideoFrames,
    dropped: quality().droppedVideoFrames - droppedVideoFrames,
    latency: Number(document.querySelector("#latency")?.value || NaN),
    rate: video.playbackRate,
    error: video.error?.message ?? null,
  });
};
try {
  const opened = Date.now();
  await page.goto(url, { waitUntil: "domcontentloaded", timeout: 10000 });
  await page.waitForFunction(() => {
    const video = document.querySelector("#video");
    return video && video.currentTime > 0 && video.getVideoPlaybackQuality().totalVideoFrames > 1;
  }, null, { timeout: START_MS, polling: 50 });
  result.startup_ms = Date.now() - opened;
  await pause(SETTLE_MS);
  await page.evaluate(begin);
  do {
    await pause(500);
    const { latency, rate, error, ...rest } = await page.evaluate(() => window.steady());
    Object.assign(result, rest);
    if (Number.isFinite(latency)) result.latency.push(latency);
    result.rates.push(rate);
    if (error) { errors.push(error); break; }
  } while (result.wall < Number(seconds));
} catch (error) {
  errors.push(String(error));
}
try {
  const notice = await page.evaluate(() => document.querySelector("#notice")?.textContent ?? "");
  if (notice) errors.push(notice);
} catch (error) {
  errors.push(String(error));
}
await conclude(session, result, screenshot);
