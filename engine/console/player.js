// One video element and the engine that feeds it: starting, trying again, waiting for a stream to
// come back, and what can be said of the playing.

const RETRY_MS = [500, 1000, 2000, 4000];
// A stream that is gone and has shown nothing new for so long has ended.
const STALL_MS = 4000;

const ENGINES = {
  flv: () => import('./engines/flv.js'),
  hls: () => import('./engines/hls.js'),
  dash: () => import('./engines/dash.js'),
  file: () => import('./engines/file.js'),
};

export class Player {
  // `notify(sentence)` shows what the viewer must know; '' when there is nothing.
  constructor(video, notify) {
    this.video = video;
    this.notify = notify;
    this.describe = null; // () => { engine, url, live, lowLatency }
    this.engine = null;
    this.generation = 0; // tells what belongs to a player that was replaced
    this.retries = 0;
    this.timer = 0;
    this.waiting = false; // for the stream to be listed again
    this.moved = { time: 0, at: 0 };
    video.addEventListener('playing', () => {
      this.retries = 0;
      this.notify('');
    });
    video.addEventListener('ended', () => {
      if (this.live) this.ended();
    });
    video.addEventListener('error', () => {
      // The engines report what they fetch and feed; this is the browser's own word on a file.
      if (this.source?.engine === 'file' && video.error) this.refuse(fileSentence(video.error));
    });
  }

  // Plays what `describe` says; it is asked again for each attempt.
  play(describe) {
    this.stop();
    this.describe = describe;
    this.start();
  }

  stop() {
    this.describe = null;
    this.retries = 0;
    this.close();
    this.notify('');
  }

  get live() {
    return Boolean(this.source?.live);
  }

  async start() {
    this.close();
    const mine = this.generation;
    const current = () => mine === this.generation;
    const on = {
      ended: () => current() && this.ended(),
      failed: (why) => current() && this.fail('The stream stopped (' + why + ').'),
      unsupported: (why) => current() && this.refuse('This browser cannot play it' + (why ? ': ' + why : '.')),
    };
    try {
      this.source = this.describe();
      this.moved = { time: 0, at: performance.now() };
      const { open } = await ENGINES[this.source.engine]();
      const engine = current() ? await open(this.video, this.source, on) : null;
      if (!current()) {
        engine?.close();
        return;
      }
      this.engine = engine;
    } catch (error) {
      if (current()) this.refuse(error.message);
      return;
    }
    // Refused without a gesture, the viewer presses play.
    if (!this.engine.autoplays) this.video.play().catch(() => {});
  }

  close() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.generation += 1;
    this.waiting = false;
    const engine = this.engine;
    this.engine = null;
    this.source = null;
    engine?.close();
  }

  // The last picture stays until the stream is back.
  ended() {
    this.waiting = true;
    this.notify('The stream has ended. It goes on here when it is back.');
  }

  fail(sentence) {
    this.close();
    const wait = RETRY_MS[Math.min(this.retries, RETRY_MS.length - 1)];
    this.retries += 1;
    this.notify(sentence + ' Trying again…');
    this.timer = setTimeout(() => this.start(), wait);
  }

  refuse(sentence) {
    this.close();
    this.notify(sentence);
  }

  // What the list of live streams says of the one that plays: it is there, it is not.
  listed(isLive) {
    if (!this.describe) return;
    if (isLive && this.waiting) {
      this.start();
    } else if (!isLive && !this.waiting && (this.timer || this.stalled())) {
      this.close();
      this.ended();
    }
  }

  stalled() {
    const now = performance.now();
    if (this.video.currentTime !== this.moved.time || this.video.paused) {
      this.moved = { time: this.video.currentTime, at: now };
    }
    return this.live && now - this.moved.at > STALL_MS;
  }

  // { latencyName, latency, dropped, frames, width, height, codecs }: null where nothing is known.
  stats() {
    const { video, engine } = this;
    const quality = video.getVideoPlaybackQuality?.();
    return {
      latencyName: engine?.latencyName ?? 'Latency',
      latency: engine && video.readyState ? engine.latency() : null,
      dropped: quality?.droppedVideoFrames ?? null,
      frames: quality?.totalVideoFrames ?? null,
      width: video.videoWidth,
      height: video.videoHeight,
      codecs: engine ? engine.codecs().filter(Boolean) : [],
    };
  }
}

function fileSentence(error) {
  if (error.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED) {
    return 'This browser cannot play the file, or it cannot be had.';
  }
  return 'The file cannot be played: ' + error.message;
}
