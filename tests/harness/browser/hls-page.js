// Plays ?url= with the server's own hls.js, and lets a test choose among the levels.
import Hls from "/vendor/hls.min.mjs";

const video = document.querySelector("#video");
const hls = new Hls({ enableWorker: false, lowLatencyMode: true, startLevel: 0 });
hls.on(Hls.Events.ERROR, (_, { fatal, details }) => {
  if (fatal) document.querySelector("#notice").textContent = details;
});
window.levels = () => hls.levels.map(({ width }) => width);
window.choose = (level) => { hls.nextLevel = level; };
hls.attachMedia(video);
hls.loadSource(new URLSearchParams(location.search).get("url"));
await video.play();
