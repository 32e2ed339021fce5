/* Names for services that were given none: what one sees, and what one finds there, on a walk past
 * a bee garden. */
#include "common/random.h"
#include "ctl/spec.h"

static const char *const firsts[] = {
    "amber",  "basking", "brisk",  "bright",  "busy",    "calm",    "clever", "cosy",    "dewy",
    "downy",  "eager",   "early",  "fabled",  "fleet",   "fond",    "gentle", "gilded",  "glad",
    "golden", "hardy",   "hazel",  "humble",  "humming", "jolly",   "keen",   "kind",    "lively",
    "lucid",  "mellow",  "merry",  "mild",    "misty",   "nimble",  "noble",  "patient", "placid",
    "proud",  "quiet",   "ready",  "rosy",    "rustic",  "sage",    "serene", "silken",  "spry",
    "steady", "sunny",   "supple", "swift",   "tawny",   "thrifty", "tidy",   "trusty",  "velvet",
    "vivid",  "warm",    "wild",   "willing", "wise",    "witty",   "woven",  "young",   "zesty",
};

static const char *const seconds[] = {
    "acacia",    "alder",  "apiary",   "aster",     "balm",   "basil",    "birch",  "borage",
    "bramble",   "briar",  "campion",  "cedar",     "cherry", "clover",   "comb",   "cornflower",
    "cowslip",   "crocus", "dahlia",   "dandelion", "elder",  "fennel",   "fern",   "foxglove",
    "garden",    "gorse",  "hawthorn", "heather",   "hive",   "hollow",   "honey",  "hyssop",
    "iris",      "ivy",    "jasmine",  "larkspur",  "laurel", "lavender", "linden", "lupin",
    "mallow",    "maple",  "marigold", "meadow",    "mint",   "myrtle",   "nectar", "orchard",
    "pollen",    "poppy",  "primrose", "rosemary",  "rowan",  "saffron",  "skep",   "sorrel",
    "sunflower", "tansy",  "teasel",   "thistle",   "thyme",  "verbena",  "vetch",  "willow",
};

const char *name_random(struct arena *a)
{
    return arena_printf(a, "%s_%s", firsts[random_u64() % ARRAY_LEN(firsts)],
                        seconds[random_u64() % ARRAY_LEN(seconds)]);
}
