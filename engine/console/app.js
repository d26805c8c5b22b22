// The page: ties the lists, the address bar and the player together.
import { unsupported } from './engines/support.js';
import {
  fetchJson, files, hashOf, keyOf, liveEntry, recordings, showEntries, targetOf, viewersOf,
} from './list.js';
import { Player } from './player.js';
import {
  DEFAULT_PROTOCOL, PROTOCOLS, addresses, isOffered, liveUrl, playbackOf, protocolOf,
} from './protocols.js';
import { copyButton, count, element } from './text.js';

const POLL_MS = 2000;
const STATS_MS = 500;
const HEADINGS = { live: 'Live streams', recordings: 'Recordings', files: 'Files' };
const EMPTY = {
  live: 'Nothing is live. Start a publisher with the line below.',
  recordings: 'Nothing is recorded here.',
  files: 'There are no files here.',
};

const byId = (id) => document.getElementById(id);
const player = new Player(byId('video'), (sentence) => { byId('notice').textContent = sentence; });

let streams = [];
let listed = false; // the list has come once
let current = null; // { vhost, app, name } of a live stream, or { url, title }
let protocol = DEFAULT_PROTOCOL;

const isLive = (target) => target !== null && target.name !== undefined;
const streamOf = (target) => streams.find((stream) => keyOf(targetOf(stream)) === keyOf(target));

function describe() {
  if (!isLive(current)) {
    const live = !/^\/(vod|rec)\//.test(new URL(current.url, location.href).pathname);
    return { ...playbackOf(current.url), live };
  }
  const stream = streamOf(current);
  const missing = unsupported(stream);
  if (missing) throw new Error(missing);
  return { ...protocol, url: liveUrl(protocol, current, stream), live: true };
}

function watch(target) {
  current = target;
  byId('video').muted = true;
  byId('watch').hidden = false;
  byId('title').textContent = target.title || target.url || target.app + '/' + target.name;
  byId('protocols').hidden = !isLive(target);
  remember();
  showUrls();
  showLive();
  player.play(describe);
}

function stop() {
  current = null;
  player.stop();
  byId('watch').hidden = true;
  remember();
  showLive();
}

// The address bar names what plays, so that it can be handed on and reloaded.
function remember() {
  const query = new URLSearchParams();
  if (isLive(current)) {
    if (current.app !== 'live') query.set('app', current.app);
    if (current.vhost) query.set('vhost', current.vhost);
    query.set('name', current.name);
    query.set('protocol', protocol.id);
  } else if (current) {
    query.set('url', current.url);
  }
  const text = query.toString();
  history.replaceState(null, '', location.pathname + (text ? '?' + text : '') + location.hash);
}

function buildProtocols() {
  byId('protocols').append(...PROTOCOLS.map((one) => {
    const label = element('label');
    const input = element('input');
    Object.assign(input, { type: 'radio', name: 'protocol', value: one.id, checked: one === protocol });
    input.addEventListener('change', () => {
      protocol = one;
      if (current) watch(current);
    });
    label.append(input, element('span', one.label));
    return label;
  }));
}

let shownUrls = '';
function showUrls() {
  const stream = isLive(current) ? streamOf(current) : null;
  for (const input of document.querySelectorAll('#protocols input')) {
    input.parentNode.hidden = !isOffered(protocolOf(input.value), stream);
  }
  const urls = stream ? addresses(stream) : current?.url ? [['URL', new URL(current.url, location.href).href]] : [];
  const shown = JSON.stringify(urls);
  if (shown === shownUrls) return; // a button must not vanish under the pointer
  shownUrls = shown;
  byId('urls').replaceChildren(...urls.map(([type, url]) => {
    const item = element('li');
    item.append(element('span', type), element('code', url), copyButton(url));
    return item;
  }));
}

function showStats() {
  if (!current) return;
  const { latencyName, latency, dropped, frames, width, height, codecs } = player.stats();
  const put = (id, text, value) => {
    const node = byId(id);
    if (node.textContent !== text) node.textContent = text;
    if (value !== undefined) node.value = value;
  };
  put('latency-name', latencyName);
  put('latency', latency === null ? '–' : latency.toFixed(2) + ' s', latency === null ? '' : latency.toFixed(3));
  put('dropped', frames ? dropped + ' of ' + frames : '–', frames ? String(dropped) : '');
  put('resolution', width ? width + '×' + height : '–');
  put('codec', codecs.join().replace(/,\s*/g, ', ') || '–');
}

// Where the lists are: the tab, and a folder in it.
function place() {
  const [tab, ...path] = location.hash.slice(1).split('/');
  try {
    return { tab: tab in HEADINGS ? tab : 'live', path: path.map(decodeURIComponent) };
  } catch {
    return { tab: 'live', path: [] };
  }
}

function showLive() {
  if (place().tab !== 'live' || !listed) return;
  const key = isLive(current) ? keyOf(current) : '';
  const entries = streams.map((stream) => liveEntry(stream, key, () => watch(targetOf(stream))));
  put(entries, EMPTY.live);
}

function put(entries, empty, isFault = false) {
  showEntries(byId('entries'), entries);
  byId('empty').textContent = empty;
  byId('empty').classList.toggle('fault', isFault);
  byId('empty').hidden = entries.length > 0;
}

let visit = 0;
async function browse() {
  const { tab, path } = place();
  visit += 1;
  const mine = visit;
  byId('heading').textContent = HEADINGS[tab];
  byId('publish').hidden = tab !== 'live';
  for (const link of document.querySelectorAll('header nav a')) {
    if (link.hash === '#' + tab) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  showCrumbs(tab, path);
  if (tab === 'live') {
    put([], listed ? EMPTY.live : 'Loading…');
    showLive();
    return;
  }
  put([], 'Loading…');
  try {
    const entries = await (tab === 'recordings' ? recordings : files)(path, watch);
    if (mine === visit) put(entries, EMPTY[tab]);
  } catch (error) {
    if (mine === visit) put([], error.message, true);
  }
}

function showCrumbs(tab, path) {
  const crumbs = byId('crumbs');
  crumbs.hidden = path.length === 0;
  const links = [HEADINGS[tab], ...path].flatMap((text, depth) => {
    const link = element('a', text);
    link.href = hashOf(tab, path.slice(0, depth));
    return depth ? [document.createTextNode('/'), link] : [link];
  });
  crumbs.replaceChildren(...links);
}

async function refresh() {
  if (!document.hidden) {
    try {
      streams = (await fetchJson('/api/live')).live;
      listed = true;
      showLive();
      if (isLive(current)) player.listed(Boolean(streamOf(current)));
      if (current) showUrls();
      const viewers = streams.reduce((sum, stream) => sum + viewersOf(stream), 0);
      byId('summary').textContent = count(streams.length, 'stream') + ' · ' + count(viewers, 'viewer');
    } catch (error) {
      byId('summary').textContent = 'no list of streams: ' + error.message;
    }
  }
}

async function showPush() {
  const port = await fetchJson('/api/status').then((status) => status.rtmp.port, () => 1935);
  const line = 'ffmpeg -re -i input.mp4 -c copy -f flv rtmp://' + location.hostname + ':' + port + '/live/stream';
  byId('push').textContent = line;
  byId('push').after(copyButton(line));
}

async function poll() {
  await refresh();
  setTimeout(poll, POLL_MS);
}

async function main() {
  const query = new URLSearchParams(location.search);
  protocol = protocolOf(query.get('protocol')) || (query.get('ws') === '1' ? protocolOf('ws-flv') : DEFAULT_PROTOCOL);
  buildProtocols();
  byId('stop').addEventListener('click', stop);
  window.addEventListener('hashchange', browse);
  setInterval(showStats, STATS_MS);
  browse();
  showPush();
  // The list first: it tells what can be decoded and where a vhost is.
  await poll();
  if (query.get('url')) {
    watch({ url: query.get('url') });
  } else if (query.get('name')) {
    watch({ vhost: query.get('vhost') || '', app: query.get('app') || 'live', name: query.get('name') });
  }
}

main();
