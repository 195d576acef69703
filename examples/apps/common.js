// Shared by both apps: the session, calls of the API, the stream of notifications, a small map.

// Places of Seoul that both apps offer.
export const PLACES = [
  { lat: 37.5662, lng: 126.9784, address: "서울시 중구 명동" },
  { lat: 37.5730, lng: 126.9768, address: "서울시 종로구 종로" },
  { lat: 37.4979, lng: 127.0276, address: "서울시 강남구 강남역" },
  { lat: 37.5563, lng: 126.9236, address: "서울시 마포구 홍대입구역" },
  { lat: 37.5133, lng: 127.1001, address: "서울시 송파구 잠실역" },
  { lat: 37.5219, lng: 126.9245, address: "서울시 영등포구 여의도" },
];

export const $ = (id) => document.getElementById(id);
export const won = (amount) => `${Number(amount).toLocaleString("ko-KR")}원`;
export const clock = (iso) => new Date(iso).toLocaleTimeString("ko-KR", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const suffix = (id) => id.split("#")[1];

export function fillPlaces(select, chosen) {
  PLACES.forEach((place, index) => select.add(new Option(place.address, index, index === chosen, index === chosen)));
}

// The signed-in person. A local run issues tokens to these pages; elsewhere a token comes from the city's sign-in and is
// pasted.
export class Session {
  static async start(person) {
    const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ person }) };
    const answer = await fetch("/session", request).catch(() => null);
    const token = answer?.ok ? (await answer.json()).token : prompt("액세스 토큰 (access token)");
    return new Session(person, token);
  }

  constructor(person, token) {
    this.person = person;
    this.token = token;
  }

  async call(method, path, body, key) {
    const headers = { authorization: `Bearer ${this.token}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    if (key) headers["idempotency-key"] = key;
    const answer = await fetch(`/v1${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const text = await answer.text();
    const value = text ? JSON.parse(text) : null;
    if (!answer.ok) throw Object.assign(new Error(value?.detail ?? answer.statusText), { status: answer.status, problem: value });
    return value;
  }

  // Listens until the page is closed. A stream ends from time to time (a gateway closes it after 30 s); in `onOpen` the
  // caller reads what it may have missed.
  async listen(onOpen, onNotification) {
    const kind = this.person.split("#")[0];
    for (;;) {
      try {
        const answer = await fetch(`/v1/events?${kind}=${encodeURIComponent(suffix(this.person))}`, { headers: { authorization: `Bearer ${this.token}` } });
        if (!answer.ok) throw new Error(answer.statusText);
        onOpen();
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          const blocks = (rest + value).split("\n\n");
          rest = blocks.pop();
          for (const block of blocks) {
            const data = block.split("\n").find((line) => line.startsWith("data:"));
            if (data) onNotification(JSON.parse(data.slice(5)));
          }
        }
      } catch {
        // The next attempt follows, as after the end of a stream.
      }
      await new Promise((resolve) => setTimeout(resolve, 1000 + Math.random() * 1000));
    }
  }
}

// Draws points on a flat map that shows them all. `points`: [{lat, lng, label, color}].
export function drawMap(svg, points) {
  const [width, height, edge] = [400, 190, 36];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const shown = points.filter(Boolean);
  if (!shown.length) return;
  const flat = shown.map((p) => ({ ...p, x: p.lng * Math.cos((p.lat * Math.PI) / 180), y: -p.lat }));
  const span = (values) => [Math.min(...values), Math.max(...values)];
  const [x0, x1] = span(flat.map((p) => p.x));
  const [y0, y1] = span(flat.map((p) => p.y));
  const scale = Math.min((width - 2 * edge) / Math.max(x1 - x0, 1e-4), (height - 2 * edge) / Math.max(y1 - y0, 1e-4));
  const at = (p) => [width / 2 + (p.x - (x0 + x1) / 2) * scale, height / 2 + (p.y - (y0 + y1) / 2) * scale];
  const add = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    if (text) element.textContent = text;
    svg.append(element);
  };
  const line = flat.filter((p) => p.line).map((p) => at(p).join(",")).join(" ");
  add("polyline", { points: line, fill: "none", stroke: "#8fa3b8", "stroke-width": 3, "stroke-dasharray": "2 6", "stroke-linecap": "round" });
  for (const p of flat) {
    const [x, y] = at(p);
    add("circle", { cx: x, cy: y, r: 8, fill: p.color, stroke: "#fff", "stroke-width": 2.5 });
    add("text", { x, y: y - 13, "text-anchor": "middle", "font-size": 12, fill: "#16202c" }, p.label);
  }
}

// Shows an error in the page, and clears it at the next attempt.
export async function attempt(work) {
  const line = $("error");
  try {
    line.textContent = "";
    return await work();
  } catch (error) {
    line.textContent = error.message;
    return undefined;
  }
}
