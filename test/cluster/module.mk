# Programs that cluster tests run on hosts and in containers.
CLUSTER_TOOLS := $(B)/http_load $(B)/wget $(B)/udp_echo

# Static, so that it runs in any container.
$(B)/http_load: test/cluster/http_load.c $(LIBS) | $(GEN_H)
	@mkdir -p $(dir $@)
	@$(if $(V),,echo "  CC $<")
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize=% -fPIE,$(CFLAGS)) -static -O2 -o $@ $< $(call lib_of,common) -lpthread

$(B)/wget $(B)/udp_echo: $(B)/%: test/cluster/%.c
	@mkdir -p $(dir $@)
	@$(if $(V),,echo "  CC $<")
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize=%,$(CFLAGS)) -O2 -pie -o $@ $<

all: $(CLUSTER_TOOLS)
