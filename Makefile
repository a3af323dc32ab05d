# make               build/jeton
# make run           installs what is missing, builds, starts the demo
# make test          installs what is missing, builds with sanitizers, runs every test
# make deps          what building and testing needs, from Debian and (for the specs' peers) npm; JETON_DEPS=build: building alone
# make install       PREFIX=/usr/local DESTDIR=
# make lint format asan tsan fuzz SECONDS=60
# make bench         the proxies side by side (docs/performance.md): CASES="small tls" QUICK=1 WRITE=1; bench-page: all of that page
# make bench-instructions bench-flame    instructions of a request against the kept ones (UPDATE=1 keeps these); where its time goes
# make Q= … shows the compiler's commands

VARIANT ?= release
PREFIX ?= /usr/local
DESTDIR ?=
SECONDS ?= 60
Q ?= @
JOBS ?= $(shell nproc)

B := build/$(VARIANT)
CORE := $(filter-out core/main.c,$(sort $(wildcard core/*/*.c)))
TESTS := $(sort $(wildcard spec/unit/*_test.c))
FUZZ := $(sort $(wildcard spec/fuzz/*_fuzz.c))

# Debian 13 ships llhttp as a library; Debian 12 ships its C sources with node-llhttp.
LLHTTP_SRC := $(wildcard /usr/share/llhttp/*.c)
LLHTTP_INC := $(wildcard /usr/share/include/llhttp)
LLHTTP_LIB := $(if $(LLHTTP_SRC),,-lllhttp)
# Its state machine reads values by SSE4.2 if it may use it when it is compiled. So on x86-64 it is compiled a second time, under other names, and
# http/reading.c chooses when it runs.
X86_64 := $(filter x86_64-%,$(shell $(CC) -dumpmachine))
LLHTTP_SSE42 := $(if $(filter %/llhttp.c,$(LLHTTP_SRC)),$(if $(X86_64),yes))

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Werror
DEFS := -D_GNU_SOURCE -DJETON_SCRIPTS='"$(PREFIX)/share/jeton"' $(if $(LLHTTP_SSE42),-DJETON_LLHTTP_SSE42)
INCS = -Icore $(patsubst %,-isystem %,$(LLHTTP_INC)) $(shell pkg-config --cflags-only-I lua5.4 libuv libnghttp2 | sed 's/-I/-isystem /g')
LIBS = $(shell pkg-config --libs lua5.4 libuv libnghttp2) $(LLHTTP_LIB) -lmbedtls -lmbedx509 -lmbedcrypto -lz -lpthread -lm -ldl

# gcc for x86-64 clears what has a known size by `rep stos`, which takes 84 ns for an exchange's 1,500 bytes, and libc's memset 32.
MEMSET := $(if $(X86_64),$(if $(findstring clang,$(shell $(CC) --version)),,-mmemset-strategy=unrolled_loop:128:noalign,libcall:-1:noalign))
OPT_release := -O2 -flto=auto -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE $(MEMSET)
LD_release := -O2 -flto=auto -pie -Wl,-z,relro,-z,now $(MEMSET)
OPT_asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LD_asan := -fsanitize=address,undefined
OPT_tsan := -O1 -fsanitize=thread -fno-omit-frame-pointer
LD_tsan := -fsanitize=thread
export TSAN_OPTIONS ?= suppressions=$(CURDIR)/spec/support/tsan.supp
OPT_debug := -O0
OPT_fuzz := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LD_fuzz := -fsanitize=address,undefined
ifeq ($(VARIANT),fuzz)
CC := clang
endif

CFLAGS_ALL = -std=c11 -g $(OPT_$(VARIANT)) $(WARN) $(DEFS) $(INCS) $(CPPFLAGS) $(CFLAGS)
LDFLAGS_ALL = $(LD_$(VARIANT)) $(LDFLAGS)

OBJ := $(CORE:%.c=$(B)/%.o)
LLHTTP_OBJ := $(LLHTTP_SRC:/usr/share/llhttp/%.c=$(B)/llhttp/%.o) $(if $(LLHTTP_SSE42),$(B)/llhttp/sse42.o)
TEST_BIN := $(TESTS:spec/unit/%.c=$(B)/spec/%)
FUZZ_BIN := $(FUZZ:spec/fuzz/%.c=$(B)/spec/%)

.PHONY: all run test deps install lint format asan tsan fuzz ctests ctests-bin specs clean
.SECONDARY:

all: build/jeton
build/jeton: $(B)/jeton
	@ln -sf $(VARIANT)/jeton $@

$(B)/jeton: $(B)/core/main.o $(OBJ) $(LLHTTP_OBJ)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)
$(B)/core/%.o: core/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(B)/spec/%_test.o: spec/unit/%_test.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(B)/spec/%_bench.o: spec/bench/slot/%_bench.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(B)/spec/%_fuzz.o: spec/fuzz/%_fuzz.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(B)/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) -g $(OPT_$(VARIANT)) -DLLHTTP_STRICT_MODE=1 $(INCS) -c -o $@ $<
$(B)/llhttp/sse42.c: /usr/share/llhttp/llhttp.c
	@mkdir -p $(@D)
	$(Q)sed -E 's/llhttp__internal_(_c_|init|execute)/llhttp_sse42_\1/g' $< >$@
$(B)/llhttp/sse42.o: $(B)/llhttp/sse42.c
	$(Q)$(CC) -g $(OPT_$(VARIANT)) -msse4.2 -DLLHTTP_STRICT_MODE=1 $(INCS) -c -o $@ $<
$(B)/spec/%_test: $(B)/spec/%_test.o $(OBJ) $(LLHTTP_OBJ)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)
$(B)/spec/%_bench: $(B)/spec/%_bench.o $(OBJ) $(LLHTTP_OBJ)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)
$(B)/spec/%_fuzz: $(B)/spec/%_fuzz.o $(OBJ) $(LLHTTP_OBJ)
	$(Q)$(CC) -fsanitize=fuzzer $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

asan tsan:
	$(MAKE) VARIANT=$@ build/$@/jeton
ctests-bin: $(TEST_BIN)
ctests: $(TEST_BIN)
	@spec/support/run-ctests $(TEST_BIN)

run:
	@spec/support/deps build
	$(MAKE) -j$(JOBS) all
	build/jeton demo
# The specs run the sanitized binary (those of memory the release one): a leak or a report ends it with another code than 0, and the spec fails.
test:
	@spec/support/deps test
	$(MAKE) -j$(JOBS) all
	$(MAKE) -j$(JOBS) VARIANT=asan build/asan/jeton ctests-bin
	$(MAKE) VARIANT=asan ctests
	$(MAKE) specs
specs:
	@spec/support/run-specs $(SPECS)
deps:
	@spec/support/deps $(or $(JETON_DEPS),all)

install: all
	install -D -m 755 $(B)/jeton $(DESTDIR)$(PREFIX)/bin/jeton
	cd scripts && find . -name '*.lua' -exec install -D -m 644 '{}' '$(DESTDIR)$(PREFIX)/share/jeton/{}' ';'
	cd examples && find . -name '*.lua' -exec install -D -m 644 '{}' '$(DESTDIR)$(PREFIX)/share/jeton/examples/{}' ';'

# Objects only: a link would add nothing that a warning could come from.
lint: deps
	$(MAKE) -j$(JOBS) CC=gcc VARIANT=release B=build/lint-gcc lint-objects
	$(MAKE) -j$(JOBS) CC=clang VARIANT=debug B=build/lint-clang lint-objects
	clang-format --dry-run --Werror $$(git ls-files 'core/*.[ch]' 'spec/*.[ch]')
	luacheck --quiet scripts examples spec
.PHONY: lint-objects
lint-objects: $(OBJ) $(B)/core/main.o $(TEST_BIN:=.o) $(B)/spec/slot_bench.o
format:
	clang-format -i $$(git ls-files 'core/*.[ch]' 'spec/*.[ch]')

# Each target for SECONDS, from its own seeds, the corpus of requests and the examples; a finding ends it with an error and leaves its input in build/fuzz.
fuzz: deps
	$(MAKE) -j$(JOBS) VARIANT=fuzz fuzz-run
.PHONY: fuzz-run
fuzz-run: $(FUZZ_BIN)
	@spec/security/corpus/seeds $(B)/corpus
	@spec/fuzz/h2_seeds $(B)/corpus
	@set -e; for f in $(notdir $(FUZZ_BIN)); do \
	  echo "fuzz $$f for $(SECONDS) s"; mkdir -p $(B)/corpus/$$f spec/fuzz/seeds/$${f%_fuzz}; \
	  $(B)/spec/$$f -max_total_time=$(SECONDS) -artifact_prefix=$(B)/ -print_final_stats=0 -verbosity=0 $(B)/corpus/$$f spec/fuzz/seeds/$${f%_fuzz}; \
	done

# QUICK=1: one round of a second each. The suite itself runs on the core of the load; as many connections as the system allows.
bench: bench-deps
	@ulimit -n 65536 2>/dev/null || ulimit -n $$(ulimit -Hn); $(if $(QUICK),QUICK=1) WRITE=$(WRITE) ROUNDS=$(ROUNDS) ROUND_SECONDS=$(ROUND_SECONDS) \
	  REFRESH_SECONDS=$(REFRESH_SECONDS) taskset -c 1 lua5.4 spec/bench/bench.lua $(CASES)
bench-flame: bench-deps
	@WRITE=$(WRITE) lua5.4 spec/bench/flame.lua
# All that docs/performance.md shows, measured anew: half an hour on a machine that has nothing else to do.
bench-page:
	@status=0; for part in bench "bench CASES=flags" bench-flame; do $(MAKE) $$part WRITE=1 || status=1; done; exit $$status
bench-instructions:
	@spec/support/deps count
	$(MAKE) -j$(JOBS) all
	@lua5.4 spec/bench/instructions.lua $(if $(UPDATE),--update)
.PHONY: bench bench-page bench-flame bench-instructions bench-deps
bench-deps:
	@spec/support/deps bench
	$(MAKE) -j$(JOBS) all $(B)/spec/slot_bench

clean:
	rm -rf build

-include $(OBJ:.o=.d) $(B)/core/main.d $(TEST_BIN:=.d) $(FUZZ_BIN:=.d) $(B)/spec/slot_bench.d
