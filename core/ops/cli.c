/* cli.c: a table of commands, a table of options, and a short parser between them; help is printed from the tables.
 *
 * A command names the options that it takes; an option of another command is an error that says so, as is a misspelt one, with the
 * nearest name. Nothing is parsed and then ignored. Main thread, before any other exists. */
#include "ops/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/named.h"
#include "base/str.h"
#include "base/version.h"
#include "http/services.h"
#include "ops/control.h"
#include "ops/control_client.h"
#include "ops/demo.h"
#include "ops/exits.h"
#include "ops/own_dir.h"
#include "ops/process.h"
#include "ops/starter.h"
#include "policy/modules.h"

enum { LISTEN_MAX = 32, PATH_SIZE = 256, STOP_LIMIT_MS = 3600 * 1000 };

enum option_bit {
  OPTION_LISTEN = 1 << 0,
  OPTION_WORKERS = 1 << 1,
  OPTION_WATCH = 1 << 2,
  OPTION_CONTROL = 1 << 3,
  OPTION_DUMPABLE = 1 << 4,
  OPTION_PROVE = 1 << 5,
  OPTION_JSON = 1 << 6,
  OPTION_HELP = 1 << 7,
  OPTION_VERSION = 1 << 8,
  OPTION_FOR = 1 << 9,
};
struct arguments {
  const char *program;
  const struct command *command;
  const char *operand; /* POLICY, FILE or NAME; NULL: not given */
  const char *login;   /* of --for; NULL: not given */
  const char *second;  /* behind POLICY: NAME */
  const char *listen[LISTEN_MAX];
  size_t nlisten;
  unsigned workers;
  char control[PATH_SIZE];
  unsigned given; /* option_bit */
};
struct option {
  const char *name;
  enum option_bit bit;
  const char *value; /* what it takes, or NULL */
  const char *help;
};
struct command {
  const char *heading; /* of it and those behind it, or NULL */
  const char *name;
  const char *operand; /* "POLICY", "POLICY NAME", "[FILE]" when it may be left out, NULL: none */
  const char *help;
  unsigned options;
  int (*run)(const struct arguments *a);
};

static const struct option OPTIONS[] = {
    {"--listen", OPTION_LISTEN, "ADDR",
     "instead of the policy's: 127.0.0.1:8080, [::1]:8080, :8080, unix:/path; may be repeated"},
    {"--workers", OPTION_WORKERS, "N", "threads that serve; default: the policy's, else one a processor"},
    {"--watch", OPTION_WATCH, NULL, "reload when the policy or one of its modules changes"},
    {"--prove", OPTION_PROVE, NULL,
     "reload: first run each changed fetch once, one that fails refuses it;\n                     run: end with 69 "
     "when a token has no "
     "value after timeouts.prove (30 s)"},
    {"--for", OPTION_FOR, "LOGIN", "the login to begin with: oauth2 (the default), aws, gcp, azure, github, …"},
    {"--json", OPTION_JSON, NULL, "all of it, for programs"},
    {"--control", OPTION_CONTROL, "PATH",
     "the control socket; default: $XDG_RUNTIME_DIR/jeton.sock,\n                     /run/jeton.sock for root, else "
     "/tmp/jeton-UID.sock"},
    {"--debug-dumpable", OPTION_DUMPABLE, NULL, "allow core dumps and debuggers: secrets may get out"},
    {"--help", OPTION_HELP, NULL, "of a command: jeton COMMAND --help"},
    {"--version", OPTION_VERSION, NULL, "the version"},
};
enum { NOPTIONS = sizeof OPTIONS / sizeof OPTIONS[0] };

static int usage_error(const char *fmt, const char *what) {
  (void)fputs("jeton: ", stderr);
  (void)fprintf(stderr, "%s%s\n", fmt, what);
  return EXIT_USAGE;
}

/* "unknown command "statsu" (did you mean "status"?)" */
static int unknown(const char *kind, const char *what, const char *const *names, size_t n) {
  const char *nearest = NULL;
  size_t letters = strlen(what + strspn(what, "-"));
  unsigned least = letters < 6 ? (unsigned)letters / 3 + 2 : 4; /* of a short word little is left after three changes */
  for (size_t i = 0; i < n; i++) {
    unsigned d = str_distance(str_of(what), str_of(names[i]));
    if (d < least) nearest = names[i];
    if (d < least) least = d;
  }
  (void)fprintf(stderr, "jeton: unknown %s \"%s\"", kind, what);
  if (nearest != NULL) (void)fprintf(stderr, " (did you mean \"%s\"?)", nearest);
  (void)fputs("; jeton --help lists them\n", stderr);
  return EXIT_USAGE;
}

/* Of a command that is named already only its own options come near. */
static int unknown_option(const struct command *command, const char *what) {
  const char *names[NOPTIONS];
  size_t n = 0;
  for (size_t i = 0; i < NOPTIONS; i++)
    if (command == NULL || (command->options & OPTIONS[i].bit) != 0) names[n++] = OPTIONS[i].name;
  return unknown("option", what, names, n);
}

/* --- commands --- */

static struct policy_overrides overrides_of(const struct arguments *a) {
  return (struct policy_overrides){
      .listen = a->nlisten > 0 ? a->listen : NULL, .nlisten = a->nlisten, .workers = a->workers};
}

/* By name: opening a pipe here and closing it would take away its other end's reader. */
static int refuse_unreadable(const char *path) {
  struct stat st;
  int err = access(path, R_OK) != 0 || stat(path, &st) != 0 ? -errno : S_ISDIR(st.st_mode) ? UV_EISDIR : 0;
  if (err == 0) return EXIT_GOOD;
  (void)fprintf(stderr, "jeton: cannot read %s: %s\n", path, err_text(err));
  return EXIT_NOINPUT;
}

static int command_run(const struct arguments *a) {
  int status = refuse_unreadable(a->operand);
  if (status != EXIT_GOOD) return status;
  struct process_options o = {.policy_path = a->operand,
                              .overrides = overrides_of(a),
                              .control_path = a->control,
                              .watch = (a->given & OPTION_WATCH) != 0,
                              .prove = (a->given & OPTION_PROVE) != 0,
                              .debug_dumpable = (a->given & OPTION_DUMPABLE) != 0};
  return process_run(&o);
}

static void print_summary(const char *path, const struct policy *p) {
  (void)printf("%s: good: %zu listen address%s, %zu upstream%s, %zu token%s%s\n", path, p->nlistens,
               p->nlistens == 1 ? "" : "es", p->nupstreams, p->nupstreams == 1 ? "" : "s", p->ntokens,
               p->ntokens == 1 ? "" : "s", p->forward != NULL ? ", a forward proxy" : "");
}

static int command_check(const struct arguments *a) {
  int status = refuse_unreadable(a->operand);
  if (status != EXIT_GOOD) return status;
  struct services services;
  struct registry *names = registry_new();
  if (services_init(&services, names) != 0) {
    registry_free(names);
    return EXIT_OSERR;
  }
  struct report report;
  report_init(&report);
  struct policy *p = reload_load(&services, a->operand, &(struct policy_overrides){.thorough = true}, &report);
  if (report.text.n > 0) (void)fwrite(report.text.p, 1, report.text.n, stderr);
  if (p != NULL) print_summary(a->operand, p);
  if (p != NULL) policy_unref(p);
  report_fini(&report);
  services_close(&services);
  registry_free(names);
  return p != NULL ? EXIT_GOOD : EXIT_CONFIG;
}

static int command_demo(const struct arguments *a) {
  int status = a->operand != NULL ? refuse_unreadable(a->operand) : EXIT_GOOD;
  if (status != EXIT_GOOD) return status;
  struct demo_options o = {.program = a->program,
                           .policy = a->operand,
                           .listen = a->nlisten > 0 ? a->listen : NULL,
                           .nlisten = a->nlisten,
                           .control_path = (a->given & OPTION_CONTROL) != 0 ? a->control : NULL};
  return demo_run(&o);
}

static int refuse_starter(const char *name, int rc) {
  struct buf names;
  buf_init(&names);
  starter_list(&names);
  if (names.n == 0)
    (void)fprintf(stderr, "jeton: the policies that init writes are not in %s (JETON_SCRIPTS says where else)\n",
                  scripts_dir());
  else if (rc == UV_ENOENT)
    (void)fprintf(stderr, "jeton: --for: there is no policy for \"%s\" to begin with; there are %s\n", name,
                  buf_z(&names));
  else
    (void)fprintf(stderr, "jeton: --for %s: %s\n", name, err_text(rc));
  bool there = names.n > 0;
  buf_fini(&names);
  return there ? EXIT_USAGE : EXIT_NOINPUT;
}

static int write_new(const char *path, struct str text) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) {
    bool there = errno == EEXIST;
    (void)fprintf(stderr, "jeton: cannot create %s: %s%s\n", path, err_text(-errno),
                  there ? " (jeton init FILE takes another name)" : "");
    return EXIT_CANTCREAT;
  }
  bool good = write(fd, text.p, text.n) == (ssize_t)text.n;
  good = close(fd) == 0 && good;
  if (!good) {
    (void)fprintf(stderr, "jeton: cannot write %s: %s\n", path, err_text(-errno));
    return EXIT_CANTCREAT;
  }
  (void)printf("wrote %s; next: edit it, then jeton check %s, jeton run %s --watch\n", path, path, path);
  return EXIT_GOOD;
}

static int command_init(const struct arguments *a) {
  const char *name = a->login != NULL ? a->login : STARTER_USUAL;
  struct buf text;
  buf_init(&text);
  int rc = starter_read(name, &text);
  int status =
      rc != 0 ? refuse_starter(name, rc) : write_new(a->operand != NULL ? a->operand : "policy.lua", buf_str(&text));
  buf_fini(&text);
  return status;
}

/* What answers is asked by a path: bytes that a terminal would act on are shown, not sent to it (C0, DEL, and C1 in UTF-8). */
static void print_answer(struct str text, FILE *to) {
  for (size_t i = 0; i < text.n; i++) {
    const unsigned char c = (unsigned char)text.p[i];
    const bool c1 = c == 0xc2 && i + 1 < text.n && (unsigned char)text.p[i + 1] < 0xa0;
    if ((c < ' ' && c != '\n' && c != '\t') || c == 0x7f || c1)
      (void)fprintf(to, "\\x%02x", c1 ? (unsigned char)text.p[++i] : c);
    else
      (void)fputc(c, to);
  }
}

/* One request of a running jeton: prints its text, to stderr when it is no success. The HTTP status, or a negative code. */
static int ask(const struct arguments *a, const char *method, const char *target) {
  struct buf body;
  buf_init(&body);
  unsigned stranger;
  int status = control_ask(a->control, method, target, &body, &stranger);
  if (stranger != CONTROL_OWN) {
    (void)fprintf(
        stderr,
        "jeton: the process that answers on the control socket %s is another user's (uid %u), so it was asked "
        "nothing; --control names the socket of your own\n",
        a->control, stranger);
  } else if (status < 0) {
    (void)fprintf(
        stderr, "jeton: no answer on the control socket %s: %s%s\n", a->control, err_text(status),
        status == UV_ENOENT || status == UV_ECONNREFUSED ? " (is jeton running? --control names another socket)" : "");
  } else {
    print_answer(buf_str(&body), status < 400 ? stdout : stderr);
  }
  buf_fini(&body);
  return status;
}

static int exit_for_answer(int status, int refused) {
  if (status < 0) return exit_for(status);
  return status < 400 ? EXIT_GOOD : refused;
}

static int command_reload(const struct arguments *a) {
  bool prove = (a->given & OPTION_PROVE) != 0;
  int status = ask(a, "POST", prove ? "/reload?prove=1&format=text" : "/reload?format=text");
  return exit_for_answer(status, status == 422 ? EXIT_CONFIG : EXIT_UNAVAILABLE); /* 503: it is stopping */
}

static int command_status(const struct arguments *a) {
  bool json = (a->given & OPTION_JSON) != 0;
  return exit_for_answer(ask(a, "GET", json ? "/status" : "/status?format=text"), EXIT_SOFTWARE);
}

static int command_refresh(const struct arguments *a) {
  struct buf target;
  buf_init(&target);
  buf_addz(&target, "/refresh/");
  for (const char *c = a->operand; *c != '\0'; c++) {
    bool plain =
        (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("-._~", *c) != NULL;
    buf_addf(&target, plain ? "%c" : "%%%02X", (unsigned char)*c);
  }
  buf_addz(&target, "?format=text");
  int status = ask(a, "POST", buf_z(&target));
  buf_fini(&target);
  return exit_for_answer(status, status == 404 ? EXIT_USAGE : EXIT_SOFTWARE);
}

static int command_stop(const struct arguments *a) {
  int code = exit_for_answer(ask(a, "POST", "/stop?format=text"), EXIT_SOFTWARE);
  if (code != EXIT_GOOD) return code;
  int status = control_wait_gone(a->control, STOP_LIMIT_MS);
  if (status == 0) (void)puts("stopped");
  return exit_for(status);
}

/* A port that is free now: the issuer is told of it before anything listens there. 0: none is to be had. */
static unsigned free_port(void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool good = fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0;
  if (fd >= 0) close(fd);
  return good ? ntohs(a.sin_port) : 0;
}

static int command_login(const struct arguments *a) {
  int status = refuse_unreadable(a->operand);
  if (status != EXIT_GOOD) return status;
  char control[PATH_SIZE];
  if (!own_dir_make("login.sock", control, sizeof control)) return EXIT_CANTCREAT;
  struct policy_login login = {.what = a->second, .port = free_port(), .code = EXIT_UNAVAILABLE};
  struct process_options o = {.policy_path = a->operand,
                              .overrides = {.login = &login, .workers = 1},
                              .control_path = control,
                              .control_in_own_dir = true};
  status = process_run(&o);
  own_dir_remove(control);
  return status != EXIT_GOOD ? status : login.code;
}

enum { OF_A_RUNNING_ONE = OPTION_CONTROL | OPTION_HELP };
static const struct command COMMANDS[] = {
    {"to try it, and to write a policy", "demo", "[POLICY]",
     "an issuer, an upstream and the proxy in one process; a policy of yours gets visitors, too",
     OPTION_LISTEN | OPTION_CONTROL | OPTION_HELP, command_demo},
    {NULL, "init", "[FILE]", "write a commented policy to begin with (policy.lua)", OPTION_FOR | OPTION_HELP,
     command_init},
    {NULL, "check", "POLICY", "say what is wrong with a policy, without running it", OPTION_HELP, command_check},
    {NULL, "run", "POLICY", "run a policy; events go to standard error, a line a request to standard output",
     OPTION_LISTEN | OPTION_WORKERS | OPTION_WATCH | OPTION_PROVE | OPTION_CONTROL | OPTION_DUMPABLE | OPTION_HELP,
     command_run},
    {NULL, "login", "POLICY NAME", "log in once with a browser, for a token that lasts: NAME, or NAME[KEY] of a family",
     OPTION_HELP, command_login},
    {"of a running jeton, found by its control socket", "status", NULL, "what it does: tokens, connections, counters",
     OF_A_RUNNING_ONE | OPTION_JSON, command_status},
    {NULL, "reload", NULL, "load the policy again, or say why not", OF_A_RUNNING_ONE | OPTION_PROVE, command_reload},
    {NULL, "refresh", "NAME", "fetch a token now: NAME, or NAME[KEY] of a family", OF_A_RUNNING_ONE, command_refresh},
    {NULL, "stop", NULL, "finish what is under way, and end", OF_A_RUNNING_ONE, command_stop},
};
enum { NCOMMANDS = sizeof COMMANDS / sizeof COMMANDS[0] };

static int unknown_command(const char *what) {
  const char *names[NCOMMANDS];
  for (size_t i = 0; i < NCOMMANDS; i++) names[i] = COMMANDS[i].name;
  return unknown("command", what, names, NCOMMANDS);
}

/* --- help --- */

enum { HELP_COLUMN = 19 };

static void say(FILE *to, const char *prefix, const char *name, const char *value, const char *help) {
  bool apart = value != NULL;
  int left = HELP_COLUMN - (int)(strlen(name) + (apart ? strlen(value) + 1 : 0));
  (void)fprintf(to, "  %s%s%s%s%*s%s\n", prefix, name, apart ? " " : "", apart ? value : "", left > 0 ? left : 1, "",
                help);
}

static void say_options(FILE *to, unsigned bits) {
  for (size_t i = 0; i < NOPTIONS; i++) {
    if ((bits & OPTIONS[i].bit) != 0) say(to, "", OPTIONS[i].name, OPTIONS[i].value, OPTIONS[i].help);
  }
}

static void say_usage(FILE *to) {
  (void)fputs("jeton: an HTTP proxy that keeps a fresh token on every request\n", to);
  for (size_t i = 0; i < NCOMMANDS; i++) {
    if (COMMANDS[i].heading != NULL) (void)fprintf(to, "\n%s:\n", COMMANDS[i].heading);
    say(to, "jeton ", COMMANDS[i].name, COMMANDS[i].operand, COMMANDS[i].help);
  }
  (void)fputs("\noptions:\n", to);
  say_options(to, ~0U);
  (void)fputs(
      "\nexit codes: 0 good, 64 usage, 66 no such file, 69 unavailable (nobody answers, address in use,\nno token with "
      "--prove), "
      "70 the other side\n"
      "failed, 71 no memory or descriptors, 73 cannot create, 77 no permission, 78 the policy is not valid\n",
      to);
}

static void say_command(const struct command *c) {
  (void)printf("jeton %s%s%s: %s\n\n", c->name, c->operand != NULL ? " " : "", c->operand != NULL ? c->operand : "",
               c->help);
  say_options(stdout, c->options & ~(unsigned)OPTION_HELP);
}

/* --- parsing --- */

static int take_workers(struct arguments *a, const char *value) {
  unsigned long long n;
  if (!str_to_u64(str_of(value), &n) || n == 0 || n > POLICY_WORKERS_MAX) {
    (void)fprintf(stderr, "jeton: --workers: expected a number from 1 to %d, got \"%s\"\n", POLICY_WORKERS_MAX, value);
    return EXIT_USAGE;
  }
  a->workers = (unsigned)n;
  return EXIT_GOOD;
}

static int take_listen(struct arguments *a, const char *value) {
  union address address;
  if (address_parse(str_of(value), &address) != 0) {
    (void)fprintf(
        stderr,
        "jeton: --listen: expected an address such as 127.0.0.1:8080, [::1]:8080, :8080 or unix:/path, got \"%s\"\n",
        value);
    return EXIT_USAGE;
  }
  if (a->nlisten == LISTEN_MAX) return usage_error("too many --listen", "");
  a->listen[a->nlisten++] = value;
  return EXIT_GOOD;
}

static int take_control(struct arguments *a, const char *value) {
  size_t n = strlen(value);
  if (n == 0 || n >= sizeof((struct sockaddr_un *)0)->sun_path)
    return usage_error("--control: not the path of a Unix socket: ", value);
  memcpy(a->control, value, n + 1);
  return EXIT_GOOD;
}

static int take_value(struct arguments *a, enum option_bit bit, const char *value) {
  switch (bit) {
    case OPTION_WORKERS: return take_workers(a, value);
    case OPTION_LISTEN: return take_listen(a, value);
    case OPTION_FOR: a->login = value; return EXIT_GOOD;
    default: return take_control(a, value);
  }
}

static const struct option *find_option(struct str name) {
  if (str_eq(name, STR("-h"))) name = STR("--help");
  for (size_t i = 0; i < NOPTIONS; i++) {
    if (str_eq(name, str_of(OPTIONS[i].name))) return &OPTIONS[i];
  }
  return NULL;
}

/* --name, --name=value or --name value; *at moves on when the next argument was the value. */
static int take_option(struct arguments *a, char **argv, int argc, int *at) {
  const char *text = argv[*at], *equals = strchr(text, '=');
  struct str name = {text, equals != NULL ? (size_t)(equals - text) : strlen(text)};
  const struct option *o = find_option(name);
  if (o == NULL) return unknown_option(a->command, text);
  a->given |= o->bit;
  if (o->value == NULL) return equals == NULL ? EXIT_GOOD : usage_error(o->name, ": takes no value");
  if (equals != NULL) return take_value(a, o->bit, equals + 1);
  if (*at + 1 >= argc) {
    (void)fprintf(stderr, "jeton: %s: %s is missing\n", o->name, o->value);
    return EXIT_USAGE;
  }
  return take_value(a, o->bit, argv[++*at]);
}

static bool takes_two(const struct command *c) { return c->operand != NULL && strchr(c->operand, ' ') != NULL; }

static int take_word(struct arguments *a, const char *word) {
  if (a->command == NULL && strcmp(word, "help") == 0) {
    a->given |= OPTION_HELP;
    return EXIT_GOOD;
  }
  if (a->command == NULL) {
    for (size_t i = 0; i < NCOMMANDS; i++) {
      if (strcmp(COMMANDS[i].name, word) == 0) a->command = &COMMANDS[i];
    }
    return a->command != NULL ? EXIT_GOOD : unknown_command(word);
  }
  const char **place = a->operand == NULL ? &a->operand : &a->second;
  if (a->command->operand == NULL || (place == &a->second && !takes_two(a->command)) || *place != NULL)
    return usage_error("one argument too many: ", word);
  *place = word;
  return EXIT_GOOD;
}

static int parse(struct arguments *a, int argc, char **argv) {
  bool words_only = false;
  for (int i = 1; i < argc; i++) {
    bool option = !words_only && argv[i][0] == '-' && argv[i][1] != '\0';
    if (option && strcmp(argv[i], "--") == 0) {
      words_only = true;
      continue;
    }
    int status = option ? take_option(a, argv, argc, &i) : take_word(a, argv[i]);
    if (status != EXIT_GOOD) return status;
  }
  return EXIT_GOOD;
}

static int refuse_misplaced(const struct arguments *a) {
  for (size_t i = 0; i < NOPTIONS; i++) {
    if ((a->given & OPTIONS[i].bit) == 0 || (a->command->options & OPTIONS[i].bit) != 0) continue;
    (void)fprintf(stderr, "jeton: %s is no option of jeton %s\n", OPTIONS[i].name, a->command->name);
    return EXIT_USAGE;
  }
  const bool all = takes_two(a->command) ? a->second != NULL : a->operand != NULL;
  if (a->command->operand == NULL || a->command->operand[0] == '[' || all) return EXIT_GOOD;
  const char *missing = a->operand != NULL ? strchr(a->command->operand, ' ') + 1 : a->command->operand;
  (void)fprintf(stderr, "jeton: %s is missing: jeton %s %s\n", missing, a->command->name, a->command->operand);
  return EXIT_USAGE;
}

/* A descriptor of 0 to 2 that is closed would be the next file's or socket's, and the log would be written into that; libuv ends a process that
 * closes one of them. */
static bool open_standard(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) { /* upwards: open takes the lowest that is free */
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return false;
  }
  return true;
}

int cli_main(int argc, char **argv) {
  struct arguments a = {.program = argv[0]};
  if (!open_standard()) return EXIT_OSERR;
  control_default_path(a.control, sizeof a.control);
  int status = parse(&a, argc, argv);
  if (status != EXIT_GOOD) return status;
  if ((a.given & OPTION_HELP) != 0) {
    if (a.command != NULL)
      say_command(a.command);
    else
      say_usage(stdout);
    return EXIT_GOOD;
  }
  if ((a.given & OPTION_VERSION) != 0 && a.command == NULL) {
    (void)puts("jeton " JETON_VERSION);
    return EXIT_GOOD;
  }
  if (a.command == NULL) {
    say_usage(stderr);
    return EXIT_USAGE;
  }
  status = refuse_misplaced(&a);
  return status != EXIT_GOOD ? status : a.command->run(&a);
}
