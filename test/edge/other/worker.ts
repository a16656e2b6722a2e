/** A Worker that has nothing to do with Headgate. */
export default { fetch: () => new Response("hello") };
