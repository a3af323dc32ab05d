/* demo_servers.h: the two other parties of the demo, on a thread of their own: an issuer of tokens that live ten seconds, and an upstream that
 * answers 401 to any request whose token is not valid now. `POST /token?life=3s&delay=500ms` asks the issuer for another life, and to take its time. */
#ifndef JETON_OPS_DEMO_SERVERS_H
#define JETON_OPS_DEMO_SERVERS_H

enum { DEMO_TOKEN_MS = 10 * 1000, DEMO_URL_SIZE = 64 };

struct demo_servers;
/* Both listen on 127.0.0.1 when it returns; NULL: they could not. URLs as "http://127.0.0.1:40001". */
struct demo_servers *demo_servers_start(char issuer[DEMO_URL_SIZE], char upstream[DEMO_URL_SIZE]);
void demo_servers_stop(struct demo_servers *d); /* joins the thread, frees */

#endif
