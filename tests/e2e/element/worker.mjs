// Adds the access token to requests for media, as Element Web's own service worker does
// (Matrix specification v1.11, "Content repository": media wants authentication).
let session = null;

self.addEventListener("install", (event) => event.waitUntil(self.skipWaiting()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("message", (event) => {
  session = event.data;
});
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const found = url.pathname.match(/^\/_matrix\/media\/v3\/((?:download|thumbnail)\/.*)$/);
  if (event.request.method !== "GET" || !found || !session) return;
  if (url.origin !== new URL(session.homeserver).origin) return;
  url.pathname = `/_matrix/client/v1/media/${found[1]}`;
  event.respondWith(fetch(url, { headers: { Authorization: `Bearer ${session.token}` } }));
});
