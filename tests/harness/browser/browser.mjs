// Starts Chromium with one page and keeps what it complains about.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

// `modules` holds node_modules with playwright-core. Returns { browser, page, errors }.
export async function launch(modules) {
  const { chromium } = createRequire(modules + "/")("playwright-core");
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required",
      "--ignore-certificate-errors", "--disable-dev-shm-usage", "--disable-gpu"],
  });
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (line) => {
    const where = line.location().url;
    if (line.type() === "error" && !where.endsWith("/favicon.ico")) {
      errors.push(`${line.text()} ${where}`);
    }
  });
  return { browser, page, errors };
}

// Players that are no part of the server are served below a path it does not know.
export async function servePlayers(page, modules) {
  await page.route("**/test-player/**", async (route) => {
    const name = new URL(route.request().url()).pathname.split("/").pop();
    const file = name === "shaka-player.js"
      ? `${modules}/node_modules/shaka-player/dist/shaka-player.compiled.js`
      : new URL(name, import.meta.url);
    const contentType = name.endsWith(".html") ? "text/html" : "text/javascript";
    await route.fulfill({ contentType, body: await readFile(file, "utf8") });
  });
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// How every script ends: a picture of the page where one is wanted, and the result in one line.
export async function conclude({ browser, page, errors }, result, screenshot) {
  try {
    if (screenshot) await page.screenshot({ path: screenshot });
  } catch (error) {
    errors.push(String(error));
  } finally {
    await browser.close();
  }
  console.log(JSON.stringify(result));
}
