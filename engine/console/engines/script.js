// Loads a classic script once; players that are no modules leave one global behind.

const loading = new Map();

export function loadScript(path, global) {
  if (!loading.has(path)) {
    loading.set(path, new Promise((resolve, reject) => {
      const script = document.createElement('script');
      script.src = path;
      script.addEventListener('load', () => resolve(window[global]));
      script.addEventListener('error', () => {
        loading.delete(path);
        script.remove();
        reject(new Error(path + ' cannot be loaded.'));
      });
      document.head.append(script);
    }));
  }
  return loading.get(path);
}
