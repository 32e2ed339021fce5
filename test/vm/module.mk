# Programs that run inside the virtual machine (test/vm/README.md): test/vm/test_X.c, one binary each.
VM_TESTS := $(patsubst test/vm/%.c,$(B)/vm/%,$(wildcard test/vm/test_*.c))

.PHONY: vm-tests
vm-tests: $(VM_TESTS)

$(B)/vm/%: $(B)/obj/test/vm/%.o $(LIBS)
	@mkdir -p $(dir $@)
	$(LINK)
