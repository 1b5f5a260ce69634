/* The two ways to serve; each returns the exit status. */
#ifndef SERVE_H
#define SERVE_H

/* Until standard input ends. */
int serve_stdio(void);

/* On a free port of 127.0.0.1, which is printed first; until the process is killed. */
int serve_http(void);

#endif
