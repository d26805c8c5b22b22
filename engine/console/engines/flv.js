// FLV over HTTP and WebSocket, by mpegts.js.
import { loadScript } from './script.js';

// Behind this much the viewer is brought back to the live edge.
const LATENCY_MAX_S = 1.5;
const LATENCY_MIN_S = 0.3;

export async function open(video, { url, live }, on) {
  const mpegts = await loadScript('vendor/mpegts.js', 'mpegts');
  if (!mpegts.isSupported()) throw new Error('This browser has no Media Source Extensions.');
  mpegts.LoggingControl.enableAll = false;
  const options = {
    isLive: live,
    enableWorker: false,
    enableStashBuffer: !live,
    lazyLoad: !live,
    liveBufferLatencyChasing: live,
    liveBufferLatencyMaxLatency: LATENCY_MAX_S,
    liveBufferLatencyMinRemain: LATENCY_MIN_S,
    autoCleanupSourceBuffer: true,
  };
  const player = mpegts.createPlayer({ type: 'flv', isLive: live, cors: true, url }, options);
  player.on(mpegts.Events.ERROR, (kind, detail, info) => {
    const sentence = (info && info.msg) || kind + ', ' + detail;
    if (/codec|format.*unsupported/i.test(detail)) on.unsupported(sentence);
    else on.failed(sentence);
  });
  if (live) player.on(mpegts.Events.LOADING_COMPLETE, () => on.ended());
  player.attachMediaElement(video);
  player.load();
  return {
    // FLV says nothing of wall clocks: what is buffered is what can be known here.
    latencyName: 'Buffered',
    latency: () => {
      const { buffered, currentTime } = video;
      return live && buffered.length ? Math.max(0, buffered.end(buffered.length - 1) - currentTime) : null;
    },
    codecs: () => {
      const { videoCodec, audioCodec } = player.mediaInfo || {};
      return [videoCodec, audioCodec];
    },
    close: () => player.destroy(),
  };
}
