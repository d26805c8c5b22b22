// Plays ?url= with shaka-player as it is configured by default.
const video = document.querySelector("#video");
const latency = document.querySelector("#latency");
const fail = (error) => { document.querySelector("#notice").textContent = JSON.stringify(error.detail ?? error); };
const player = new shaka.Player();
player.addEventListener("error", fail);
await player.attach(video);
setInterval(() => {
  const { liveLatency } = player.getStats();
  if (Number.isFinite(liveLatency)) latency.textContent = latency.value = liveLatency.toFixed(3);
}, 250);
await player.load(new URLSearchParams(location.search).get("url")).catch(fail);
await video.play();
