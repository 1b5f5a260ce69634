// The libraries, as the rest of the page names them.

export const { h, render } = preact;
export const { useEffect, useId, useRef, useState } = preactHooks;
export const html = htm.bind(h);
