// Opens a page that plays a multivariant playlist, plays the highest level, the lowest and the
// highest again, each for a while, and prints one JSON line: the widths of the levels, the widths
// that were shown, and every complaint.
// node levels.mjs MODULES_DIR URL SECONDS SCREENSHOT
import { conclude, launch, servePlayers } from "./browser.mjs";

const START_MS = 20000;

const [modules, url, seconds, screenshot] = process.argv.slice(2);
const session = await launch(modules);
const { page, errors } = session;
const result = { levels: [], shown: [], errors };
page.on("response", (response) => {
  if (response.status() >= 400 && !response.url().endsWith("/favicon.ico")) {
    errors.push(`${response.status()} ${response.url()}`);
  }
});
await servePlayers(page, modules);

// Runs in the page: the level is shown, and goes on for so many seconds.
const plays = ({ width, seconds }) => {
  const video = document.querySelector("#video");
  if (video.videoWidth !== width) { window.from = undefined; return false; }
  window.from ??= video.currentTime;
  return video.currentTime - window.from >= seconds;
};
try {
  await page.goto(url, { waitUntil: "domcontentloaded", timeout: 10000 });
  await page.waitForFunction(() => document.querySelector("#video").currentTime > 0, null,
    { timeout: START_MS, polling: 50 });
  result.levels = await page.evaluate(() => window.levels());
  const last = result.levels.length - 1;
  for (const level of [last, 0, last]) {
    await page.evaluate((chosen) => window.choose(chosen), level);
    await page.waitForFunction(plays, { width: result.levels[level], seconds: Number(seconds) },
      { timeout: START_MS + 2000 * Number(seconds), polling: 50 });
    result.shown.push(await page.evaluate(() => document.querySelector("#video").videoWidth));
  }
  const notice = await page.evaluate(() => document.querySelector("#notice").textContent);
  if (notice) errors.push(notice);
} catch (error) {
  errors.push(String(error));
}
await conclude(session, result, screenshot);
