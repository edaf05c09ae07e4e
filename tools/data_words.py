"""The words and sequences of the built-in word tasks, chosen by hand.

`build_data.py` turns these lists into data files. The lists say only which words a task uses; what
they become (a capital letter, a past tense, a plural) is worked out and checked there. Each list is
one text, so that a word costs one word; the order does not matter.
"""

# Shared out between `capitalize` and `lowercase-uppercase`, every other word to each, so that the
# two tasks have no word in common and both see the whole alphabet.
PLAIN_WORDS = """
able above accident across action active actor afraid afternoon again against agree alone already
although always amazing amount ancient angry animal another answer anyone anything apart apple area
argument around article asleep attention away awful back balance ball bank basic basket beach bean
beautiful because bed before behind belief below beside better between beyond bicycle big bird
birthday bitter blanket blind block blood blue board boat bone book boring both bottle bottom bowl
box boy brain brave bread breakfast bridge brief bright broad brother brown building business busy
butter button cake camera camp candle capital captain car card care careful case castle cat center
century certain chain chair chance change chapter cheap check cheese chest chicken chief child
chocolate choice circle city class clean clear clever clock close cloth cloud club coach coal coast
coat coffee coin cold college color comfort common company complete computer concert condition
contract cook cool copper copy corner correct cotton country couple courage course court cousin
cover cow crazy cream crime critical cross crowd cruel culture cup curious current curtain customer
daily damage danger dark date daughter dead dear decision deep degree delicate desert desk detail
device dinner direct dirty distance doctor dog door double doubt dozen dream dress drink driver dry
during dust duty each early earth east easy edge education effect effort egg either electric
elephant else empty end enemy engine enough entire equal evening event every example excellent
exercise expensive expert extra extreme eye face fact factory fair family famous farm fashion fast
father favorite fear feather feeling female fence fever few field final fine finger fire first fish
flag flat flight floor flour flower folk food foot foreign forest fork formal fortune forward free
fresh friend front fruit fuel full funny furniture future game garden gate general gentle ghost
giant gift girl glad glass glory goal gold good grain grand grass great green grey ground group
growth guest guide guilty guitar hair half hall hammer hand handle happy harbor hard hat head health
heart heat heavy height help hero hidden high hill history hole holiday holy home honest honey honor
hope horse hospital host hotel hour house huge human humor hundred hunger husband ice idea ideal
illness image important inch income indeed industry inside instead insurance interest internal
island issue item jacket job join joint journey joy judge juice jump justice keep key kind king
kitchen knee knife knowledge labor lady lake lamp land language large last late laugh law lawyer
lazy leader leaf league leather left leg legal lemon length less lesson letter level library life
light likely limit line lion lip liquid list literature little local lock logic lonely long loose
loss loud love lovely low loyal luck lunch machine magic mail main major manner many map market
marriage master match material matter maybe meal meaning meat medical medicine medium meeting member
memory message metal method middle midnight mild milk mind mineral minor minute mirror mistake
mixture model modern moment money monkey month mood moon moral morning mother motion mountain mouse
mouth movie much muscle music mystery name narrow nation natural near neat necessary neck needle
neighbor neither nerve net never news nice night noble noise normal north nose note nothing notice
now number nurse object obvious ocean odd offer office often oil old once only open opinion orange
order ordinary original other outside oven over owner page pain paint pair palace pale pan paper
parent park part partner party past path patient pattern peace pencil people pepper perfect perhaps
period person phone photo phrase piano picture piece pilot pink pipe place plain plane planet plant
plastic plate player pleasant please plenty pocket poem poet point poison police polite pool poor
popular port position possible post potato powder power quality quarter queen question quick quiet
quite rabbit race radio rain range rapid rare rather ready real reason recent record red region
regular relation religion remote report rescue respect rest restaurant result return rice rich ring
risk river road robot rock role roof room root rope rose rough round royal rule rural sad safe salad
salt same sand sauce scene school science scientist screen sea search season seat second secret
secure senior sense serious service several shadow shape sharp sheep ship shirt shock shoe shop
short shoulder shower sick side sign signal silence silent silver similar simple since single sister
skill skin sky sleep slow small smart smell smile smoke smooth snake snow soap social soft soil
soldier solid solution some son song soon sound soup source south space special speech speed spider
spirit spoon sport spring square stable staff stage standard star state station status steel stomach
stone store storm story strange street strong student studio subject success sudden sugar summer sun
supper surface sweet symbol system table tail talent tall target task taste teacher team telephone
temple ten tennis terrible theater theory thick thin thing thirty though thousand thread throat
through thunder ticket tiger tight time tiny tired title today together tomorrow tongue tonight tool
tooth top total touch tough towel tower town toy track trade traffic train travel treasure tree
triangle trip trouble truck true truth tube tunnel twenty twice type typical umbrella uncle under
unique unit universe until upper urban useful usual vacation valley valuable value various vast
vegetable vehicle verse very victory video view village violin vision visit visitor voice volume
wall warm water wave weak wealth weather wedding week weekend weight welcome west wet whale wheat
wheel where while white whole wide wife wild wind window wine wing winter wire wise wonder wood
wooden wool word world worse worst worth writer wrong yellow yesterday yet young youth zero
zone
"""

# Verbs with two current past forms ("learned" and "learnt", "hung" and "hanged") or with two
# spellings ("traveled") are left out: a task needs one right answer.
VERBS_IRREGULAR = """
arise bear beat become begin bend bind bite bleed blow break breed bring build burst buy cast catch
choose cling come cost creep cut deal dig draw drink drive eat fall feed feel fight find flee fling
fly foresee forget forgive freeze get give grind grow have hear hide hit hold hurt keep know lay
lead leave lend let lose make mean meet mislead mistake overcome oversee overtake pay put quit read
rebuild repay rethink rewrite ride ring rise run say see seek sell send set shake shed shoot shut
sing sink sit sleep slide speak spend spin split spread stand steal stick sting strike string swear
sweep swim swing take teach tear tell think throw undergo understand undertake undo uphold upset
wake wear weep win withdraw withhold withstand write
"""

VERBS_REGULAR = """
accept achieve add admit adopt advise agree allow announce answer appear apply argue arrive ask
attack avoid bake beg believe belong borrow bother breathe brush bury call calm care carry cause
celebrate change chase check cheer chew claim clap clean climb close collect compare complain
confess confirm consider contain continue control convince cook copy count cover crash create cross
cry damage dance decide declare defend deliver demand deny depend describe deserve destroy develop
die disagree disappear discover discuss divide doubt drag drop earn educate enjoy enter escape
examine exist expect explain explore express fail fetch fill finish fix float fold follow force gain
gather grab greet guess hate help hope hug hunt hurry identify ignore imagine improve include inform
insist intend introduce invent invite join joke jump kick kill kiss knock laugh launch lift listen
live lock look love manage marry measure melt mention mix move need notice obey observe obtain occur
offer open pack paint pass perform pick plan play pour pray prefer prepare pretend prevent produce
promise protect provide pull punish push raise reach realize receive recognize reduce refer refuse
regret relax rely remain remember remind remove repair repeat replace reply require rescue respect
return reveal rob roll rub ruin rush save scare scream search seem serve settle share shout sigh
slip smile smoke solve stare start stay step stir stop study succeed suffer suggest supply support
suppose survive swell switch talk taste tease thank tie touch treat trust try turn unite use visit
vote wait walk wander want warn wash waste watch whisper wipe wish wonder work worry wrap yell
"""

# Nouns with two current plurals ("cactuses" and "cacti", "scarfs" and "scarves") are left out.
NOUNS_IRREGULAR = """
aircraft analysis axis bacterium basis calf chairman child craftsman crisis criterion diagnosis echo
elf emphasis fireman fisherman foot gentleman goose grandchild half hero housewife hypothesis knife
leaf life loaf man midwife mouse nucleus oasis person phenomenon policeman potato salesman series
sheep shelf snowman spacecraft species stimulus synthesis thesis thief tomato tooth werewolf wife
wolf woman
"""

NOUNS_REGULAR = """
actor address airport animal answer apple arm army artist aunt author baby bag ball bank battery
beach bear bed belief bell bench berry bird birthday boat body bone book boss bottle bowl box boy
brain branch bridge brother brush bus business button cake camera camp candle captain car card
castle cat century chair chapter chef cherry chicken chief church circle city class cliff clock
cloud club coat coin college color community company computer concert copy corner cottage country
couple cousin cow cross cup customer dance daughter day decade desk diary dish doctor dog donkey
door dream dress driver duck duty eagle ear editor egg elephant enemy engine essay event exam eye
face factory fairy family farm farmer father feather fence field finger flag flower forest fork fox
friend frog game garden gate ghost giant gift girl glass goal group guest guitar gun hall hammer
hand hat heart highway hill hobby holiday horse hospital hotel hour house idea inch injury insect
island jacket job journey judge key kidney king kiss kitchen knee lady lake lamp lawyer leader leg
lemon lesson letter library lion lip list lunch machine magazine map match meal memory mirror
mistake monkey month mother mountain mouth movie museum nation neck neighbor nephew newspaper niece
night nose number nurse ocean office onion orange owner page painting palace parent party patient
peach pen pencil penguin photo piano picture piece pig pilot pipe planet plate player pocket poem
poet policy pony president prince princess prison prize problem process puppy queen question rabbit
radio reef restaurant river road rocket roof room rope rose sandwich school scientist secretary
shadow ship shirt shoe shop shoulder singer sister snake society soldier son song spoon spy star
station stomach stone story strategy strawberry street student studio teacher team temple theater
theory ticket tiger toe tool town toy train tray tree truck turkey uncle university valley vehicle
victim victory video village visitor voice waitress wall watch weapon weed week wheel window wing
winner witch witness word worker writer year
"""

# Sequences whose last item is followed by the first, one a line: months and days come first.
CYCLES = """
January February March April May June July August September October November December
Monday Tuesday Wednesday Thursday Friday Saturday Sunday
Aries Taurus Gemini Cancer Leo Virgo Libra Scorpio Sagittarius Capricorn Aquarius Pisces
rat ox tiger rabbit dragon snake horse goat monkey rooster dog pig
spring summer autumn winter
do re mi fa sol la ti
"""

# Sequences that end, one a line: planets, Greek letters, the rainbow, cards, years of school.
LINES = """
Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau \
upsilon phi chi psi omega
red orange yellow green blue indigo violet
jack queen king ace
freshman sophomore junior senior
"""
