/* modules.c: a `require` of our own, since the stock one reads files at any time and loads C.
 *
 * Files are read once, into the policy's arena, and only while the policy's file itself runs in the control VM: later the policy is shared and its sources
 * never change. Every VM then compiles the same texts, so a file that is edited between two of them cannot give workers different policies. A search that finds
 * nothing is noted, too (policy->files): `--watch` waits for a file there. Runs on the thread of its VM. */
#include "policy/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/secmem.h"
#include "lua/library.h"
#include "lua/vm.h"
#include "policy/overrides.h"

enum { NAME_MAX_BYTES = 128, PATH_MAX_BYTES = 4096 };

/* --- where the shipped scripts are --- */

static char beside_executable[PATH_MAX_BYTES];
static pthread_once_t beside_once = PTHREAD_ONCE_INIT;

static bool has_library(const char *dir) {
  char path[PATH_MAX_BYTES + 8];
  int n = snprintf(path, sizeof path, "%s/jeton", dir);
  return n > 0 && (size_t)n < sizeof path && access(path, R_OK) == 0;
}

static void find_beside(void) { /* jeton unpacked somewhere, build/jeton, build/VARIANT/jeton, PREFIX/bin/jeton */
  static const char *const places[] = {"scripts", "../scripts", "../../scripts", "../share/jeton"};
  char exe[PATH_MAX_BYTES];
  ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
  if (n <= 0) return;
  exe[n] = '\0';
  char *slash = strrchr(exe, '/');
  if (slash != NULL) *slash = '\0';
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    int len = snprintf(beside_executable, sizeof beside_executable, "%s/%s", exe, places[i]);
    if (len > 0 && (size_t)len < sizeof beside_executable && has_library(beside_executable)) return;
  }
  beside_executable[0] = '\0';
}

const char *scripts_dir(void) {
  const char *dir = getenv("JETON_SCRIPTS");
  if (dir != NULL && dir[0] != '\0') return dir;
  pthread_once(&beside_once,
               find_beside); /* first: a binary in a source tree is not for the scripts of an installed one */
  if (beside_executable[0] != '\0') return beside_executable;
#ifdef JETON_SCRIPTS
  if (has_library(JETON_SCRIPTS)) return JETON_SCRIPTS;
#endif
  return "scripts";
}

/* --- texts --- */

struct text_memory {
  void *p;
  size_t n;
};
static void wipe_text(void *arg) { /* a secret may be written in it */
  struct text_memory *m = arg;
  secmem_wipe(m->p, m->n);
}

static int read_all(int fd, char *to, size_t max, size_t *n) {
  for (*n = 0; *n < max;) {
    ssize_t got = read(fd, to + *n, max - *n);
    if (got == 0) return 0;
    if (got < 0 && errno != EINTR) return -errno;
    if (got > 0) *n += (size_t)got;
  }
  return UV_E2BIG;
}

/* Read into a buffer of its own first, whose size is bounded, then into the arena; the length of a file may change under us. */
static int read_text(struct arena *a, int fd, struct str *out) {
  char *buffer = malloc(SOURCE_MAX + 1);
  size_t n = 0;
  int rc = buffer == NULL ? UV_ENOMEM : read_all(fd, buffer, SOURCE_MAX + 1, &n);
  if (rc == 0) {
    *out = arena_dup(a, (struct str){buffer, n});
    struct text_memory *m = arena_alloc(a, sizeof *m);
    *m = (struct text_memory){(void *)(uintptr_t)out->p, n};
    arena_defer(a, wipe_text, m);
  }
  if (buffer != NULL) secmem_wipe(buffer, n);
  free(buffer);
  return rc;
}

/* A path that is tried again and again, in a pcall, counts once: as it was first seen. */
static void note_file(struct policy *p, const char *path, const struct stat *st) {
  for (size_t i = 0; i < p->nfiles; i++)
    if (strcmp(p->files[i].path, path) == 0) return;
  if (p->nfiles == FILES_MAX) return;
  if (p->files == NULL) p->files = arena_alloc(p->memory, FILES_MAX * sizeof *p->files);
  p->files[p->nfiles++] = (struct policy_file){arena_dup(p->memory, str_of(path)).p, file_stamp_of(st)};
}

/* Stamped before it is read: a change in between makes the stamp older than the text, never newer. */
static int read_file(struct policy *p, const char *path, struct str *out) {
  struct stat st = {0};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) {
    int rc = -errno;
    if (rc != UV_ENOENT && stat(path, &st) != 0) st = (struct stat){0}; /* it is there, and may become readable */
    note_file(p, path, &st);
    return rc;
  }
  (void)fstat(fd, &st);
  note_file(p, path, &st);
  int rc = read_text(p->memory, fd, out);
  close(fd);
  return rc;
}

int source_add(struct policy *p, const char *name, const char *chunk, const char *path) {
  struct str text;
  if (p->nsources == SOURCES_MAX) return UV_EMFILE;
  int rc = read_file(p, path, &text);
  if (rc != 0) return rc;
  if (p->sources == NULL) p->sources = arena_alloc(p->memory, SOURCES_MAX * sizeof *p->sources);
  p->sources[p->nsources++] = (struct source){.name = arena_dup(p->memory, str_of(name)).p,
                                              .chunk = arena_dup(p->memory, str_of(chunk)).p,
                                              .path = arena_dup(p->memory, str_of(path)).p,
                                              .text = text};
  return 0;
}

const char *source_wrong(const struct source *s) {
  return str_starts(s->text, STR(LUA_SIGNATURE)) ? "this is compiled Lua; jeton loads source text only" : NULL;
}

/* Behind a byte order mark and a first line that begins with '#', whose end stays so that lines count right. */
static struct str body(struct str text) {
  struct str b = text;
  if (str_starts(b, STR("\xef\xbb\xbf"))) b = (struct str){b.p + 3, b.n - 3};
  if (b.n == 0 || b.p[0] != '#') return b;
  const char *end = memchr(b.p, '\n', b.n);
  size_t skip = end != NULL ? (size_t)(end - b.p) : b.n;
  return (struct str){b.p + skip, b.n - skip};
}

int source_push(lua_State *L, const struct source *s) {
  char chunk[PATH_MAX_BYTES];
  const char *wrong = source_wrong(s);
  if (wrong != NULL) {
    lua_pushfstring(L, "%s: %s", s->chunk, wrong);
    return LUA_ERRSYNTAX;
  }
  struct str text = body(s->text);
  snprintf(chunk, sizeof chunk, "@%s", s->chunk);
  return luaL_loadbufferx(L, text.p, text.n, chunk, "t");
}

/* --- require --- */

struct modules {         /* a userdata, upvalue 1 of `require` */
  struct policy *policy; /* a reference */
  const char *dir;       /* in the policy's arena; NULL: no file is read */
};
enum {
  UP_MODULES = 1,
  UP_LOADED,
  UP_STACK
}; /* loaded: results by name, a light userdata while it loads. stack: names, outermost first */

static const char loading_mark; /* its address alone is used */

static const struct source *find_source(const struct policy *p, const char *name) {
  for (size_t i = 1; i < p->nsources; i++)
    if (strcmp(p->sources[i].name, name) == 0) return &p->sources[i];
  return NULL;
}

static bool name_valid(const char *name, size_t n) {
  if (n == 0 || n > NAME_MAX_BYTES || strlen(name) != n || name[0] == '.' || name[n - 1] == '.') return false;
  for (size_t i = 0; i < n; i++) {
    char c = name[i];
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!plain && !(c == '.' && name[i + 1] != '.')) return false;
  }
  return true;
}

/* Tries dir/a/b.lua and dir/a/b/init.lua; what was tried is added to the buffer of a message. */
static int add_from(struct modules *m, const char *dir, const char *name, struct str *tried) {
  static const char *const endings[] = {".lua", "/init.lua"};
  struct arena *a = m->policy->memory;
  char base[NAME_MAX_BYTES + 1], chunk[NAME_MAX_BYTES + 16];
  size_t n = strlen(name);
  for (size_t i = 0; i <= n; i++) base[i] = name[i] == '.' ? '/' : name[i];
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    snprintf(chunk, sizeof chunk, "%s%s", base, endings[i]);
    const char *path = arena_printf(a, "%s/%s", dir, chunk).p;
    int rc = source_add(m->policy, name, chunk, path);
    if (rc != UV_ENOENT && rc != UV_ENOTDIR) {
      if (rc != 0) *tried = arena_printf(a, "%s: %s", path, uv_strerror(rc));
      return rc;
    }
    *tried = arena_printf(a, "%.*s%s%s", STR_FMT(*tried), tried->n > 0 ? ", " : "", path);
  }
  return UV_ENOENT;
}

static const char *not_found_hint(const char *name) {
  if (strcmp(name, "cjson") == 0) return " (jeton.json takes its place)";
  if (strcmp(name, "socket") == 0 || strcmp(name, "socket.http") == 0 || strcmp(name, "http.request") == 0)
    return " (jeton.http takes its place)";
  return "";
}

/* What is shipped as files, and what of the global `jeton` is taken for a module. */
static const char *const shipped[] = {"jeton.jwt", "jeton.oauth2"};

static const char *own_hint(lua_State *L, const char *name) {
  const char *nearest = NULL;
  unsigned least = 5;
  for (size_t i = 0; i < sizeof shipped / sizeof *shipped; i++) {
    if (strcmp(name, shipped[i]) == 0) return " (it comes with jeton: JETON_SCRIPTS says where it is installed)";
    unsigned whole = str_distance(str_of(name), str_of(shipped[i])),
             own = str_distance(str_of(name), str_of(shipped[i] + 6));
    unsigned distance = whole < own ? whole : own;
    if (distance >= least || distance * 2 > strlen(shipped[i] + 6)) continue;
    least = distance;
    nearest = shipped[i];
  }
  if (nearest != NULL)
    return lua_pushfstring(L, " (did you mean '%s'? That and %s come with jeton)", nearest,
                           nearest == shipped[0] ? shipped[1] : shipped[0]);
  if (strncmp(name, "jeton.", 6) != 0) return not_found_hint(name);
  if (library_has(L, name + 6))
    return lua_pushfstring(L, " (%s is there without a require: it is a part of the global jeton)", name);
  return " (jeton.jwt and jeton.oauth2 come with jeton)";
}

/* Kept already, or read now. Raises when it is not to be had; nothing is owned here. */
static const struct source *need_source(lua_State *L, struct modules *m, const char *name) {
  const struct source *s = find_source(m->policy, name);
  if (s != NULL) return s;
  if (m->dir == NULL || !vm_loading(vm_of(L))) {
    luaL_error(L, "module '%s' was not required while the policy was loaded: require it at the top of the file", name);
    return NULL;
  }
  struct str tried = STR("");
  int rc = add_from(m, m->dir, name, &tried);
  if (rc == UV_ENOENT) rc = add_from(m, scripts_dir(), name, &tried);
  if (rc == UV_ENOENT) luaL_error(L, "module '%s' not found%s: no file %s", name, own_hint(L, name), tried.p);
  if (rc != 0) luaL_error(L, "module '%s' cannot be read: %s", name, tried.p);
  return find_source(m->policy, name);
}

static int raise_circle(lua_State *L, const char *name) {
  luaL_Buffer b;
  bool within = false;
  luaL_buffinit(L, &b);
  for (lua_Integer i = 1; lua_rawgeti(L, lua_upvalueindex(UP_STACK), i) == LUA_TSTRING; i++) {
    within = within || strcmp(lua_tostring(L, -1), name) == 0;
    if (!within) {
      lua_pop(L, 1);
      continue;
    }
    luaL_addvalue(&b);
    luaL_addstring(&b, " -> ");
  }
  lua_pop(L, 1);
  luaL_addstring(&b, name);
  luaL_pushresult(&b);
  return luaL_error(L, "modules require each other: %s", lua_tostring(L, -1));
}

static void set_loaded(lua_State *L, const char *name) { /* takes the top */
  lua_pushstring(L, name);
  lua_insert(L, -2);
  lua_rawset(L, lua_upvalueindex(UP_LOADED));
}

static int run_module(lua_State *L, const char *name, const struct source *s) {
  lua_Integer depth = (lua_Integer)lua_rawlen(L, lua_upvalueindex(UP_STACK)) + 1;
  lua_pushlightuserdata(L, (void *)(uintptr_t)&loading_mark);
  set_loaded(L, name);
  lua_pushstring(L, name);
  lua_rawseti(L, lua_upvalueindex(UP_STACK), depth);
  int status = source_push(L, s);
  lua_pushstring(L, name);
  lua_pushstring(L, s->path);
  if (status == LUA_OK) {
    status = lua_pcall(L, 2, 1, 0);
  } else {
    lua_pop(L, 2);
  }
  lua_pushnil(L);
  lua_rawseti(L, lua_upvalueindex(UP_STACK), depth);
  if (status != LUA_OK) {
    lua_pushnil(L);
    set_loaded(L, name);
    return lua_error(L);
  }
  if (lua_isnil(L, -1)) lua_pushboolean(L, 1);
  lua_pushvalue(L, -1);
  set_loaded(L, name);
  return 1;
}

static int l_require(lua_State *L) {
  size_t n;
  const char *name = luaL_checklstring(L, 1, &n);
  struct modules *m = lua_touserdata(L, lua_upvalueindex(UP_MODULES));
  lua_settop(L, 1);
  lua_pushvalue(L, 1);
  lua_rawget(L, lua_upvalueindex(UP_LOADED));
  if (lua_islightuserdata(L, -1)) return raise_circle(L, name);
  if (!lua_isnil(L, -1)) return 1;
  if (!name_valid(name, n))
    return luaL_error(L, "a module's name is made of letters, digits, '_' and '-', joined by dots");
  return run_module(L, name, need_source(L, m, name));
}

static int l_modules_gc(lua_State *L) {
  struct modules *m = lua_touserdata(L, 1);
  if (m->policy != NULL) policy_unref(m->policy);
  m->policy = NULL;
  return 0;
}

/* The libraries that are globals already: require "string" works as it does elsewhere. */
static void push_loaded(lua_State *L) {
  static const char *const globals[] = {"jeton", "string", "table", "math", "utf8", "coroutine", "os", "io"};
  lua_newtable(L);
  for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
    lua_pushstring(L, globals[i]);
    lua_pushvalue(L, -1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_insert(L, -2);
    lua_gettable(L, -2); /* not raw: `jeton` stands behind the globals */
    lua_remove(L, -2);
    lua_rawset(L, -3);
  }
}

void modules_open(lua_State *L, struct policy *p, const char *dir) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  lua_pushstring(L, "require");
  struct modules *m = lua_newuserdatauv(L, sizeof *m, 0);
  *m = (struct modules){0};
  lua_newtable(L);
  lua_pushcfunction(L, l_modules_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  m->policy = policy_ref(p);
  m->dir = dir;
  push_loaded(L);
  lua_newtable(L);
  lua_pushcclosure(L, l_require, 3);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

/* --- jeton login --- */

/* say(text): a line for whoever has called the command. An issuer's words are in it: bytes that a terminal would act on are shown, not sent to it. */
static int l_say(lua_State *L) {
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  for (size_t i = 0; i < n; i++) (void)putc((unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i], stdout);
  (void)putc('\n', stdout);
  (void)fflush(stdout);
  return 0;
}

void modules_login(lua_State *L, const struct policy *p) {
  if (p->login == NULL) return;
  lua_getglobal(L, "require");
  lua_pushliteral(L, "jeton.login");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "policy");
  lua_replace(L, -2);
  lua_insert(L, -2);
  lua_pushstring(L, p->login->what);
  lua_pushinteger(L, p->login->port);
  lua_pushcfunction(L, l_say);
  lua_call(L, 4, 1);
}
