// The page of the server: what is live, and a player for it. Everything a stream brings along is
// put into the page as text, never as markup.
'use strict';

const POLL_MS = 2000;
const RETRY_MS = [500, 1000, 2000, 4000];
const byId = (id) => document.getElementById(id);
const video = byId('video');

let streams = [];
let current = null; // { key, app, name, vhost, url }
let player = null;
let retries = 0;
let retryTimer = 0;

function element(tag, text, label) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (label) node.dataset.label = label;
  return node;
}

function rate(bits) {
  if (bits >= 1e6) return (bits / 1e6).toFixed(2) + ' Mbit/s';
  return Math.round(bits / 1e3) + ' kbit/s';
}

function clock(duration) {
  const found = /^PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?$/.exec(duration) || [];
  const [hours, minutes, seconds] = [1, 2, 3].map((i) => Number(found[i] || 0));
  const two = (n) => String(n).padStart(2, '0');
  return hours + ':' + two(minutes) + ':' + two(seconds);
}

function keyOf(stream) {
  return JSON.stringify([stream.vhost, stream.app.name, stream.name]);
}

function pathOf(app, name) {
  return '/' + [app, ...name.split('/')].map(encodeURIComponent).join('/') + '.flv';
}

// The page's own host is the one address known to work from here; only a stream of another vhost
// needs the address the server names.
function mediaUrl(target, overWebSocket) {
  const stream = streams.find((s) => keyOf(s) === target.key);
  let url;
  if (target.url) {
    url = new URL(target.url, location.href);
  } else if (target.vhost && stream) {
    url = new URL(stream.urls.find((u) => u.type === 'http-flv').url);
  } else {
    url = new URL(pathOf(target.app, target.name), location.href);
  }
  const secure = url.protocol === 'https:' || url.protocol === 'wss:';
  if (!['http:', 'https:', 'ws:', 'wss:'].includes(url.protocol)) throw new Error('unknown kind of URL');
  return (overWebSocket ? 'ws' : 'http') + (secure ? 's' : '') + '://' + url.host + url.pathname + url.search;
}

function stopPlayer() {
  clearTimeout(retryTimer);
  if (!player) return;
  const old = player;
  player = null;
  try { old.destroy(); } catch { /* it is gone either way */ }
}

function fail(sentence) {
  stopPlayer();
  const wait = RETRY_MS[Math.min(retries, RETRY_MS.length - 1)];
  retries += 1;
  byId('problem').textContent = sentence + ' Trying again…';
  retryTimer = setTimeout(start, wait);
}

function start() {
  stopPlayer();
  if (!current) return;
  if (!window.mpegts || !mpegts.isSupported()) {
    byId('problem').textContent = 'This browser cannot play live FLV (no Media Source Extensions).';
    return;
  }
  let url;
  try {
    url = mediaUrl(current, byId('ws').checked);
  } catch (error) {
    byId('problem').textContent = 'This address cannot be played: ' + error.message;
    return;
  }
  player = mpegts.createPlayer(
    { type: 'flv', isLive: true, cors: true, url },
    {
      isLive: true,
      enableWorker: false,
      enableStashBuffer: false,
      lazyLoad: false,
      liveBufferLatencyChasing: true,
      liveBufferLatencyMaxLatency: 1.5,
      liveBufferLatencyMinRemain: 0.3,
      autoCleanupSourceBuffer: true,
    },
  );
  const mine = player;
  player.on(mpegts.Events.ERROR, (kind, detail) => {
    if (player === mine) fail('The stream stopped (' + kind + ', ' + detail + ').');
  });
  player.on(mpegts.Events.LOADING_COMPLETE, () => {
    if (player === mine) fail('The stream has ended.');
  });
  player.attachMediaElement(video);
  player.load();
  const started = player.play();
  if (started) started.catch(() => { /* the viewer presses play */ });
}

video.addEventListener('playing', () => {
  retries = 0;
  byId('problem').textContent = '';
});

function watch(target) {
  current = target;
  retries = 0;
  video.muted = true;
  byId('watch').hidden = false;
  byId('title').textContent = target.url || target.app + '/' + target.name;
  byId('problem').textContent = '';
  showUrls();
  start();
}

function stop() {
  current = null;
  stopPlayer();
  byId('watch').hidden = true;
}

function copyButton(text) {
  const button = element('button', 'Copy');
  button.type = 'button';
  button.addEventListener('click', () => copy(button, text));
  return button;
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages without TLS have no clipboard API.
    const area = element('textarea', text);
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = 'Copy'; }, 1200);
}

let shownUrls = '';
function showUrls() {
  const stream = current && streams.find((s) => keyOf(s) === current.key);
  const urls = stream ? stream.urls : [];
  const shown = JSON.stringify(urls);
  if (shown === shownUrls) return; // a button must not vanish under the pointer
  shownUrls = shown;
  byId('urls').replaceChildren(...urls.map(({ type, url }) => {
    const item = element('li');
    item.append(element('span', type), element('code', url), copyButton(url));
    return item;
  }));
}

function row(stream) {
  const line = element('tr');
  const name = element('td');
  const button = element('button', stream.app.name + '/' + stream.name);
  button.type = 'button';
  button.title = stream.vhost ? 'on ' + stream.vhost : 'play';
  button.addEventListener('click', () => watch({
    key: keyOf(stream), app: stream.app.name, name: stream.name, vhost: stream.vhost,
  }));
  name.append(button);
  const v = stream.media.video;
  const a = stream.media.audio;
  const size = v && v.width ? ' ' + v.width + '×' + v.height : '';
  const fps = v && v.fps ? ' ' + v.fps + ' fps' : '';
  const sound = a && a.samplerate ? ' ' + a.samplerate / 1000 + ' kHz' : '';
  const { rtmp, flv, ws } = stream.viewers;
  const viewers = element('td', String(rtmp + flv + ws), 'Viewers');
  viewers.title = 'RTMP ' + rtmp + ', HTTP-FLV ' + flv + ', WS-FLV ' + ws;
  line.append(
    name,
    element('td', v ? v.codec + size + fps : '–', 'Video'),
    element('td', a ? a.codec + sound : '–', 'Audio'),
    element('td', rate(stream.bits_per_second), 'Bit rate'),
    viewers,
    element('td', clock(stream.app.duration), 'Up'),
  );
  return line;
}

function showStreams() {
  const focused = document.activeElement && document.activeElement.closest('#rows tr');
  const index = focused ? [...byId('rows').children].indexOf(focused) : -1;
  byId('rows').replaceChildren(...streams.map(row));
  const again = index >= 0 && byId('rows').children[index];
  if (again) again.querySelector('button').focus();
  byId('streams').hidden = streams.length === 0;
  byId('empty').hidden = streams.length > 0;
  const count = streams.reduce((sum, s) => sum + s.viewers.rtmp + s.viewers.flv + s.viewers.ws, 0);
  byId('summary').textContent =
    streams.length + (streams.length === 1 ? ' stream, ' : ' streams, ') +
    count + (count === 1 ? ' viewer' : ' viewers');
}

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch('/api/live', { cache: 'no-store' });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      streams = (await answer.json()).live;
      showStreams();
      showUrls();
    } catch (error) {
      byId('summary').textContent = 'no list of streams: ' + error.message;
    }
  }
  setTimeout(refresh, POLL_MS);
}

function showStats() {
  if (!current) return;
  const parts = [];
  if (video.videoWidth) parts.push(video.videoWidth + '×' + video.videoHeight);
  if (video.buffered.length) {
    const ahead = video.buffered.end(video.buffered.length - 1) - video.currentTime;
    parts.push('latency ' + Math.max(0, ahead).toFixed(2) + ' s');
  }
  if (video.getVideoPlaybackQuality) {
    const quality = video.getVideoPlaybackQuality();
    parts.push('dropped ' + quality.droppedVideoFrames + ' of ' + quality.totalVideoFrames + ' frames');
  }
  byId('stats').textContent = parts.join(' · ');
}

async function showPush() {
  let port = 1935;
  try {
    const answer = await fetch('/api/status', { cache: 'no-store' });
    if (answer.ok) port = (await answer.json()).rtmp.port;
  } catch { /* the usual port is the best guess */ }
  byId('push').textContent =
    'ffmpeg -re -i input.mp4 -c copy -f flv rtmp://' + location.hostname + ':' + port + '/live/stream';
}

byId('copy-push').addEventListener('click', (event) => copy(event.target, byId('push').textContent));
byId('stop').addEventListener('click', stop);
byId('ws').addEventListener('change', () => { retries = 0; start(); });
setInterval(showStats, 500);

const query = new URLSearchParams(location.search);
byId('ws').checked = query.get('ws') === '1' || /^wss?:/.test(query.get('url') || '');
if (query.get('url')) {
  watch({ key: '', url: query.get('url') });
} else if (query.get('name')) {
  const app = query.get('app') || 'live';
  const name = query.get('name');
  watch({ key: JSON.stringify(['', app, name]), app, name, vhost: '' });
}
showPush();
refresh();
