/* main.c: the program's entry; everything is in ops/cli.c. */
#include "ops/cli.h"

int main(int argc, char **argv) { return cli_main(argc, argv); }
