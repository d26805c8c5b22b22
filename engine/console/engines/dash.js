// DASH and low-latency DASH, by dash.js.

export async function open(video, { url, live, lowLatency }, on) {
  const dash = await import('../vendor/dash.mediaplayer.min.js');
  const player = dash.MediaPlayer().create();
  player.updateSettings({
    debug: { logLevel: dash.Debug.LOG_LEVEL_NONE },
    streaming: { liveCatchup: { enabled: lowLatency } },
  });
  const { events, errors } = { events: dash.MediaPlayer.events, errors: dash.MediaPlayer.errors };
  player.on(events.ERROR, ({ error }) => {
    const sentence = (error && error.message) || String(error);
    const codec = error && [errors.MEDIA_SOURCE_TYPE_UNSUPPORTED_CODE, errors.MANIFEST_ERROR_ID_NOSTREAMS_CODE].includes(error.code);
    if (codec) on.unsupported(sentence);
    else on.failed(sentence);
  });
  player.initialize(video, url, true);
  return {
    // It must see the element begin to play, which it does not before it has read the manifest.
    autoplays: true,
    latency: () => {
      const latency = live ? player.getCurrentLiveLatency() : NaN;
      return Number.isFinite(latency) ? latency : null;
    },
    codecs: () => ['video', 'audio'].map((kind) => player.getCurrentRepresentationForType(kind)?.codecs),
    close: () => player.destroy(),
  };
}
