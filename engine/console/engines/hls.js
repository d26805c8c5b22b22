// HLS and low-latency HLS, by hls.js, or by the browser where that is the only way.

// Play this much faster while too far behind a low-latency target.
const CATCH_UP_RATE = 1.1;

export async function open(video, { url, live, lowLatency }, on) {
  const { default: Hls } = await import('../vendor/hls.min.mjs');
  if (!Hls.isSupported()) return openNative(video, url);
  const hls = new Hls({
    lowLatencyMode: lowLatency,
    maxLiveSyncPlaybackRate: lowLatency ? CATCH_UP_RATE : 1,
    // The module form of hls.js would need a worker file of its own.
    enableWorker: false,
    backBufferLength: live ? 10 : 60,
  });
  let recovered = false;
  let codecs = [];
  // A media playlist alone names none: they are read from the media.
  hls.on(Hls.Events.BUFFER_CODECS, (_, { video: pictures, audio, audiovideo }) => {
    codecs = [pictures, audio, audiovideo].map((track) => track && track.codec);
  });
  hls.on(Hls.Events.ERROR, (_, { fatal, type, details, error }) => {
    if (!fatal) return;
    if (/codec/i.test(details)) {
      on.unsupported(error && error.message);
    } else if (type === Hls.ErrorTypes.MEDIA_ERROR && !recovered) {
      recovered = true;
      hls.recoverMediaError();
    } else {
      on.failed(details);
    }
  });
  hls.attachMedia(video);
  hls.loadSource(url);
  return {
    latency: () => {
      if (!live) return null;
      const date = hls.playingDate;
      return date ? (Date.now() - date.getTime()) / 1000 : hls.latency || null;
    },
    codecs: () => codecs,
    close: () => hls.destroy(),
  };
}

function openNative(video, url) {
  if (!video.canPlayType('application/vnd.apple.mpegurl')) {
    throw new Error('This browser cannot play HLS.');
  }
  video.src = url;
  return {
    latency: () => (video.getStartDate ? (Date.now() - video.getStartDate() - video.currentTime * 1000) / 1000 : null),
    codecs: () => [],
    close: () => {
      video.removeAttribute('src');
      video.load();
    },
  };
}
