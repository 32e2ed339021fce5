# Programs that cluster tests run on hosts and in containers: static, without the project's libraries.
CLUSTER_TOOLS := $(B)/http_load

$(B)/http_load: test/cluster/http_load.c $(LIBS) | $(GEN_H)
	@mkdir -p $(dir $@)
	@$(if $(V),,echo "  CC $<")
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize=% -fPIE,$(CFLAGS)) -static -O2 -o $@ $< $(call lib_of,common) -lpthread

all: $(CLUSTER_TOOLS)
