// The libraries, as the rest of the page names them.

export const { Component, h, render } = preact;
export const { useEffect, useLayoutEffect, useMemo, useRef, useState } = preactHooks;
export const html = htm.bind(h);
