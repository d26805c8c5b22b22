// Files the browser plays by itself.

export async function open(video, { url }) {
  video.src = url;
  return {
    latency: () => null,
    codecs: () => [],
    close: () => {
      video.removeAttribute('src');
      video.load();
    },
  };
}
