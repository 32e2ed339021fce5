# Skep's one Makefile. `make help` lists the targets; output goes to build/<variant>/.
#   SAN=address,undefined | thread   sanitizers (variant asan, tsan)
#   FAILPOINTS=1                     compiles the named failure points in (variant failpoints)
#   V=1                              shows the commands
# Adding a file needs no edit here: every folder below is one static library of its *.c files.

VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=
CC := gcc
SAN ?=
FAILPOINTS ?=
V ?=
Q := $(if $(V),,@)

ifeq ($(SAN),)
  VARIANT := $(if $(FAILPOINTS),failpoints,release)
else ifeq ($(SAN),thread)
  VARIANT := tsan
else
  VARIANT := asan
endif
B := build/$(VARIANT)

PROGRAMS := $(patsubst %/main.c,%,$(wildcard managerd/main.c agentd/main.c ctl/main.c))
FOLDERS := $(filter-out agentd/gate,$(patsubst %/,%,$(sort $(dir $(wildcard common/*.c managerd/*.c \
             managerd/*/*.c agentd/*.c agentd/*/*.c ctl/*.c test/lib/*.c test/sim/*.c)))))
GATE := $(B)/skep-gate
PACKAGES := libprotobuf-c jansson libmnl libnftables libcurl libsystemd yaml-0.1
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla \
            -Wformat=2 -Wimplicit-fallthrough -Wswitch-enum -Wpointer-arith -Wwrite-strings
CPPFLAGS := -I. -I$(B)/gen -D_GNU_SOURCE -DSKEP_VERSION='"$(VERSION)"' -MMD -MP \
            $(if $(FAILPOINTS),-DFAILPOINTS)
CFLAGS := -std=gnu11 -g $(WARNINGS) $(PKG_CFLAGS)
LDLIBS := -lnng -lmbedtls -lmbedx509 -lmbedcrypto $(PKG_LIBS) -lpthread -lm
ifeq ($(SAN),)
  CFLAGS += -O2 -fstack-protector-strong -fPIE -fno-plt
  CPPFLAGS += -D_FORTIFY_SOURCE=2
  LDFLAGS += -pie -Wl,-z,relro,-z,now
else
  CFLAGS += -O1 -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
  LDFLAGS += -fsanitize=$(SAN)
endif

PROTOS := $(wildcard proto/*.proto)
GEN_C := $(PROTOS:%.proto=$(B)/gen/%.pb-c.c)
GEN_H := $(GEN_C:.c=.h)
lib_of = $(B)/lib/$(subst /,-,$(1)).a
sources_of = $(filter-out %/main.c,$(wildcard $(1)/*.c))
LIBS := $(foreach f,$(FOLDERS),$(if $(call sources_of,$(f)),$(call lib_of,$(f)))) $(B)/lib/proto.a
PRODUCT_LIBS := $(filter-out $(B)/lib/test-%,$(LIBS))
UNIT_TESTS := $(patsubst test/unit/%.c,$(B)/unit/%,$(wildcard test/unit/test_*.c))
BENCHES := $(patsubst test/bench/%.c,$(B)/bench/%,$(wildcard test/bench/bench_*.c))
SIM := $(if $(wildcard test/sim/main.c),$(B)/sim)

.PHONY: all demo check unit sim cluster fuzz vm bench tidy format install deps help clean
.PHONY: FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(PROGRAMS:%=$(B)/%) $(GATE) $(LIBS)

# ---- building ------------------------------------------------------------------------------------

$(B)/gen/%.pb-c.c $(B)/gen/%.pb-c.h: %.proto
	@mkdir -p $(dir $@)
	$(Q)protoc-c --proto_path=. --c_out=$(B)/gen $<

$(B)/obj/gen/%.o: $(B)/gen/%.c $(GEN_H)
	@mkdir -p $(dir $@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -Wno-error -w -c -o $@ $<

$(B)/obj/%.o: %.c | $(GEN_H)
	@mkdir -p $(dir $@)
	@$(if $(V),,echo "  CC $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/lib/proto.a: $(GEN_C:$(B)/%.c=$(B)/obj/%.o)
	@mkdir -p $(dir $@); rm -f $@
	$(Q)ar rcs $@ $^

define library
$(call lib_of,$(1)): $(patsubst %.c,$(B)/obj/%.o,$(call sources_of,$(1)))
	@mkdir -p $$(dir $$@); rm -f $$@
	$$(Q)ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call library,$(f))))

LINK = $(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) \
       -Wl,--end-group $(LDLIBS)

$(PROGRAMS:%=$(B)/%): $(B)/%: $(B)/obj/%/main.o $(PRODUCT_LIBS)
	@$(if $(V),,echo "  LINK $@")
	$(LINK)

# Runs in every kind of image, so it brings all of itself; never sanitized: those need the C library's
# shared objects.
$(GATE): agentd/gate/gate.c agentd/worker/gate.h
	@mkdir -p $(dir $@)
	@$(if $(V),,echo "  LINK $@")
	$(Q)$(CC) -I. -D_GNU_SOURCE -std=gnu11 -Os $(WARNINGS) -fstack-protector-strong -fno-pie -no-pie -static -s \
	    -Wl,--gc-sections -o $@ $<

$(B)/unit/test_gate: | $(GATE)

# Which source a failing seed belongs to; rewritten only when it changes.
$(B)/gen/sim_revision.h: FORCE
	@mkdir -p $(dir $@)
	@echo '#define SIM_REVISION "$(shell git describe --always --dirty 2>/dev/null || echo unknown)"' >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(B)/obj/test/sim/main.o: $(B)/gen/sim_revision.h

# Comes before the libraries, so that it takes the place of what touches the world.
SIM_LINK := $(patsubst %.c,$(B)/obj/%.o,$(wildcard test/sim/link/*.c))
$(B)/sim: $(B)/obj/test/sim/main.o $(SIM_LINK) $(LIBS)
	$(LINK) -Wl,--wrap=raft_step -Wl,--wrap=clock_wall_ns

$(B)/unit/%: $(B)/obj/test/unit/%.o $(LIBS)
	@mkdir -p $(dir $@)
	$(LINK) -lcheck -lsubunit -lrt

$(B)/bench/%: $(B)/obj/test/bench/%.o $(LIBS)
	@mkdir -p $(dir $@)
	$(LINK)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
include $(wildcard test/*/module.mk deploy/module.mk)

# ---- testing -------------------------------------------------------------------------------------

# Sanitized by default: `make unit` = the unit tests under ASan and UBSan.
unit:
ifeq ($(SAN),)
	@$(MAKE) --no-print-directory SAN=address,undefined unit
else
unit: $(UNIT_TESTS)
	@test/run_unit.sh $(UNIT_TESTS)
endif

sim: $(SIM)
cluster: all
	@test/cluster/run.sh
bench: all $(BENCHES)
	@test/bench/run.sh $(B)
vm: all vm-tests
	@test/vm/run.sh
fuzz:
	@test/fuzz/run.sh
tidy:
	@test/tidy.sh
format:
	clang-format -i $$(git ls-files '*.c' '*.h')
check: deps
	@test/check.sh
demo: deps
	@$(MAKE) --no-print-directory all
	@test/cluster/demo.sh $(if $(KEEP),--keep)

# ---- installing ----------------------------------------------------------------------------------

DEB_BUILD := gcc make pkg-config git libnng-dev libmbedtls-dev libprotobuf-c-dev \
             protobuf-c-compiler libjansson-dev libmnl-dev libcurl4-openssl-dev libsystemd-dev \
             libyaml-dev uthash-dev libnftables-dev
DEB_TEST := check libsubunit-dev clang clang-format libclang-rt-14-dev shellcheck docker.io \
            docker-registry busybox-static iproute2 iputils-ping iptables nftables util-linux \
            procps apache2-utils curl systemd man-db e2fsprogs qemu-system-x86 kmod iperf3 jq
deps:
	@deploy/deps.sh $(DEB_BUILD) $(DEB_TEST)

help:
	@echo "make all       build managerd, agentd and ctl into $(B)/"
	@echo "make demo      install what is needed, build, and show a real cluster (KEEP=1 leaves it up)"
	@echo "make check     install what is needed, build, run every test"
	@echo "make unit      unit tests under ASan and UBSan"
	@echo "make sim       build the simulator: $(B)/sim --seed S | --seeds A..B -j2"
	@echo "make cluster   tests with real daemons and real Docker engines (root)"
	@echo "make torture   build test/torture: real managers under faults, judged (test/torture/README.md)"
	@echo "make vm        tests of kernel parts in a virtual machine (qemu, a Debian kernel)"
	@echo "make fuzz      a short run of every fuzz target"
	@echo "make bench     figures against stated goals"
	@echo "make tidy      layering, banned calls, sizes, formatting"
	@echo "make format    clang-format every source"
	@echo "make install   DESTDIR= PREFIX=/usr/local"
	@echo "make deps      install Debian packages for building, testing and the demo (root)"
	@echo "SAN=address,undefined|thread  FAILPOINTS=1  V=1"

clean:
	rm -rf build
