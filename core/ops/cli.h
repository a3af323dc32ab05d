/* cli.h: the command line. */
#ifndef JETON_OPS_CLI_H
#define JETON_OPS_CLI_H

/* Runs the command; an exit code of ops/exits.h. */
int cli_main(int argc, char **argv);

#endif
