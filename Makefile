# make            build/jeton                    make test     install what is missing, build with sanitizers, run every test
# make run        the demo                       make lint     compilers' warnings, clang-format, luacheck
# make install PREFIX=/usr/local DESTDIR=        make asan tsan  binaries with sanitizers under build/asan, build/tsan

VARIANT ?= release
CC ?= cc
PREFIX ?= /usr/local
DESTDIR ?=

B := build/$(VARIANT)
CORE := $(filter-out core/main.c,$(sort $(shell find core -name '*.c')))
TESTS := $(sort $(wildcard spec/unit/*_test.c))

# Debian 13 ships llhttp as a library; Debian 12 ships its C sources with node-llhttp.
LLHTTP_SRC := $(wildcard /usr/share/llhttp/*.c)
LLHTTP_INC := $(wildcard /usr/share/include/llhttp)
LLHTTP_LIB := $(if $(LLHTTP_SRC),,-lllhttp)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Werror
DEFS := -D_GNU_SOURCE -DJETON_SCRIPTS='"$(PREFIX)/share/jeton"'
INCS := -Icore $(patsubst %,-isystem %,$(LLHTTP_INC)) $(shell pkg-config --cflags-only-I lua5.4 libuv | sed 's/-I/-isystem /g')
LIBS := $(shell pkg-config --libs lua5.4 libuv) $(LLHTTP_LIB) -lmbedtls -lmbedx509 -lmbedcrypto -lpthread -lm -ldl

OPT_release := -O2 -flto=auto -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
LD_release := -flto=auto -O2 -pie -Wl,-z,relro,-z,now
OPT_asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LD_asan := -fsanitize=address,undefined
OPT_tsan := -O1 -fsanitize=thread -fno-omit-frame-pointer
LD_tsan := -fsanitize=thread
OPT_debug := -O0
LD_debug :=

CFLAGS_ALL := -std=c11 -g $(OPT_$(VARIANT)) $(WARN) $(DEFS) $(INCS) $(CFLAGS)
LDFLAGS_ALL := $(LD_$(VARIANT)) $(LDFLAGS)

OBJ := $(CORE:%.c=$(B)/%.o)
LLHTTP_OBJ := $(LLHTTP_SRC:/usr/share/llhttp/%.c=$(B)/llhttp/%.o)
TEST_BIN := $(TESTS:spec/unit/%.c=$(B)/spec/%)

.PHONY: all
all: $(B)/jeton
ifeq ($(VARIANT),release)
all: build/jeton
build/jeton: $(B)/jeton
	@cp $< $@
endif

$(B)/jeton: $(B)/core/main.o $(OBJ) $(LLHTTP_OBJ)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(B)/core/%.o: core/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(B)/spec/%.o: spec/unit/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(B)/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D)
	$(CC) -O2 -g $(OPT_$(VARIANT)) -DLLHTTP_STRICT_MODE=1 $(INCS) -c -o $@ $<
# A C test names the objects it needs in a line `// objects: core/token/slot.o …`; without one it gets all of core.
$(B)/spec/%_test: $(B)/spec/%_test.o $(OBJ) $(LLHTTP_OBJ)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)
ctests: $(TEST_BIN)
	@set -e; for t in $(TEST_BIN); do $$t; done

-include $(OBJ:.o=.d) $(B)/core/main.d $(TEST_BIN:=.d)
