# Fuzz targets: test/fuzz/fuzz_X.c with an LLVMFuzzerTestOneInput, linked with every library, all of it
# compiled by clang with coverage, ASan and UBSan. test/fuzz/run.sh builds and runs them:
#   make -s B=build/fuzz CC=clang SAN=fuzzer-no-link,address,undefined WARNINGS=-w fuzzers
FUZZERS := $(patsubst test/fuzz/%.c,$(B)/fuzz/%,$(wildcard test/fuzz/fuzz_*.c))

.PHONY: fuzzers
fuzzers: $(FUZZERS)

$(B)/fuzz/%: $(B)/obj/test/fuzz/%.o $(LIBS)
	@mkdir -p $(dir $@)
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)
