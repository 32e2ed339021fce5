# Real-process torture (test/torture/README.md): clients, checker, and the disk that loses writes.
TORTURE := $(B)/torture/client $(B)/torture/check $(B)/torture/crash $(B)/torture/load \
           $(B)/torture/lostwrite.so

.PHONY: torture
torture: all $(TORTURE)
bench: $(B)/torture/client $(B)/torture/load

$(B)/torture/%: $(B)/obj/test/torture/%.o $(LIBS)
	@mkdir -p $(dir $@)
	$(LINK)

# Loaded into a manager: needs nothing of ours.
$(B)/torture/lostwrite.so: test/torture/lostwrite.c test/torture/journal.h
	@mkdir -p $(dir $@)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize% -fno-sanitize%,$(CFLAGS)) -MF $@.d -fPIC -shared -o $@ $< -ldl
