"""Write the embedded corpus: small stories told by a grammar, so that nothing needs a download.

    python make_sample.py             # write sample/{train,valid,test}.tokens next to this file,
                                      # and train.tokens.names, the words that have a capital
    python make_sample.py --check     # write nothing; exit 1 if those files would change
    python make_sample.py -o DIR      # write the four files to another folder

A story is a plot and a character. A plot is four choices: a family ("somebody loses a thing"), a
problem, an attempt and a turn; within a family all of these fit together, and the family lends the
ending and the moral. The character brings a name, pronouns, a home, and hands or paws. The rest
(who the friend is, what was lost, what the snail on the wall thought of it) is drawn from the
tables below.

The tables are written in tokens, with three marks:

    [a|b|c]      one of these; an empty one is allowed, and they nest
    {word}       what this story calls `word` (its hero is {name}), or a fresh draw from its table
    {x=word}     a fresh draw from the table `word`, which this story calls `x` from here on

{he} {him} {his} {himself} speak of the hero; {he2} and so on of the friend {friend}, {he3} of {his}
{elder}, {he4} of {guide}; {says}, {says2}, {says3} and {says4} are "said so-and-so" for the same
four. Articles mend themselves: write "a {fruit}", and "a apple" comes out as "an apple".

No pair of plot and character is told twice, so none is in two of the files. The same seed gives the
same bytes on every machine: all chance comes from `random.Random.random`, whose sequence Python
promises to keep.
"""

import argparse
import random
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "code"))
from backstage.files import atomic_write  # noqa: E402 - found by the line above
from backstage.names import Spellings, as_lines, names_file  # noqa: E402
from backstage.parser import Parser, whole  # noqa: E402
from backstage.shell import guarded  # noqa: E402

SEED = 1
SIZES = {"valid": 60_000, "test": 60_000, "train": 1_000_000}  # bytes; the last story may run over
LONG_PLOTS = 0.2  # of the plots with two attempts, how many are told

# --------------------------------------------------------------------------------------------------
# who: "name kind pronoun"; every kind also lends a hero without a name ("the mouse")
# --------------------------------------------------------------------------------------------------

GIRLS = """lily anna mia rosie clara ella nora ruby emma hazel maya sophie zoe alice ivy lucy molly
    polly tess nelly amira june freya greta ada lola nina sara kiki dora"""
BOYS = """tim ben sam max leo jack finn oscar noah hugo theo tom billy henry oliver arlo felix
    jasper milo otto ravi eli kenji luca omar peter walter gus anton joe"""
BEASTS = """pip mouse he, bella rabbit she, rusty fox he, bramble bear he, tabby cat she, scout
    puppy he, prickle hedgehog she, digby mole he, hattie hamster she, nutkin squirrel he, splash
    otter she, bandit raccoon he, winnie pony she, clover lamb she, barnaby donkey he, truffles
    piglet he, nanny goat she, dapple fawn she, shelly tortoise she, bongo monkey he, leopold lion
    he, stripes tiger he, ellie elephant she, koko koala she, bumble badger he, freddie frog he,
    waldo walrus he, patch kitten he, sniffles shrew he, bess beaver she, whiskers rat he, mabel cow
    she"""
WINGED = """tilly bird she, wilma bird she, peep bird she, sunny bird she, birdie bird she, trill
    bird she, plume bird she, oswald owl he, robbie robin he, dottie ladybug she, flutter butterfly
    she, buzz bee he, penny sparrow she, quentin duck he, gloria goose she, echo bat he, ember
    dragon she, twinkle fairy she, jay parrot he, coo pigeon he, luna moth she"""
FOLK = """nim elf he, alder elf he, juniper elf he, thistle elf he, fern pixie she, bodo gnome he,
    grumble troll he, tuck giant he, wanda witch she, merle wizard he, nixie goblin she, rollo
    pirate he, isabel princess she, edmund prince he, bolt robot he, ogden ogre he, marina mermaid
    she, rowan knight he"""

FOOTED = {  # these have no paws
    "pony", "lamb", "donkey", "piglet", "goat", "fawn", "elephant", "cow", "frog", "walrus",
}
HANDS = {"child": "hands", "folk": "hands", "beast": "paws", "winged": "wings"}
HOMES = {
    "child": """a [little|tall|crooked|cozy|white|brick] [house|cottage|farmhouse|cabin|apartment]
        {near}""",
    "folk": "a [tiny|mossy|crooked|round|stone|drafty] [cottage|tower|cave|hut|castle] {near}",
    "beast": "a [warm|snug|cozy|muddy|secret] [burrow|den|barn|hollow log|little house] {near}",
    "winged": "a [snug|tall|hollow|leafy|windy] [nest|tree|attic|belfry|oak tree] {near}",
}
PRONOUNS = {"he": ("he", "him", "his", "himself"), "she": ("she", "her", "her", "herself")}

ELDERS = """mother she, mom she, mama she, grandma she, grandmother she, aunt she, big sister she,
    father he, dad he, papa he, grandpa he, grandfather he, uncle he, big brother he"""
GUIDES = """old tortoise she, wise owl she, tall postman he, fat baker he, gardener she, fisherman
    he, librarian she, kind farmer he, clockmaker he, shoemaker he, traveling painter she, gray
    heron he, wrinkled toad he, nurse she, lighthouse keeper she, one-eyed sailor he, beekeeper she,
    carpenter he, juggler he, miller he, blacksmith he, seamstress she, shepherd he, doctor she,
    sleepy camel he, night watchman he, music teacher she, white-haired lady she, ferryman he, bus
    driver she, puppet maker he"""

# --------------------------------------------------------------------------------------------------
# words: tables of single words and short phrases; no entry is drawn twice in a story while others
# are left
# --------------------------------------------------------------------------------------------------

WORDS = {
    "hue": """red, blue, yellow, green, purple, orange, pink, white, silver, golden, brown, scarlet,
        turquoise, violet, striped, spotted, speckled, sky-blue, cream, black, gray, rainbow,
        checkered, lilac, crimson""",
    "thing": """ball, drum, doll, whistle, teddy bear, toy boat, kaleidoscope, spinning top, music
        box, train, truck, necklace, bracelet, lantern, umbrella, notebook, paintbrush, button,
        marble, trumpet, yo-yo, puppet, puzzle, magnifying glass, compass, mirror, backpack,
        blanket, pillow, scarf, hat, mitten, ribbon, feather, key, pocket watch, flashlight, bucket,
        shovel, jump rope, toy rocket, toy car, crayon, book, map, bell, seashell, locket, flute,
        harmonica, tambourine, pencil case, rag doll, wooden horse, crown, cape, pinwheel, snow
        globe, toy robot, tin soldier, picture book, rattle, teacup, spyglass, fan, telescope,
        purse, wig, alarm clock, toy dinosaur, stamp album, mask, fishing rod, wand, piggy bank,
        lunchbox, thimble""",
    "thing_plural": """balloons, whistles, kites, paper flowers, umbrellas, spinning tops, clocks,
        slippers, socks, goldfish, marbles, bells, lanterns, puppets, masks, feathers, pinwheels,
        ribbons""",
    "flyer": """kite, ball, balloon, paper plane, hat, scarf, cap, frisbee, handkerchief, beanbag,
        ribbon, glove, bonnet, beret, boomerang, shuttlecock, sock, parachute, flag""",
    "magic_thing": """lamp, pebble, ring, spoon, teapot, coin, bottle, mirror, nutshell, egg, bell,
        acorn, slipper, candle, thimble, crystal, doorknob, pumpkin, comb""",
    "treat": """cookie, muffin, pancake, cupcake, pretzel, waffle, sandwich, bun, doughnut, jam
        tart, honey cake, gingerbread man, slice of toast, piece of cheese, biscuit, dumpling,
        scone, cracker, meatball""",
    "treats": """cookies, muffins, pancakes, cupcakes, pretzels, waffles, sandwiches, buns,
        doughnuts, jam tarts, candies, biscuits, dumplings, scones, peanuts, noodles, sausages,
        pickles, raisins, chestnuts, crackers""",
    "fruit": """apple, pear, peach, plum, banana, orange, apricot, melon, fig, mango, lemon,
        pineapple, turnip, strawberry, potato, carrot, onion""",
    "fruits": """apples, pears, peaches, plums, bananas, oranges, apricots, figs, mangoes, cherries,
        strawberries, blueberries, raspberries, blackberries, grapes, walnuts, hazelnuts,
        gooseberries, acorns, mushrooms, carrots, turnips, radishes, tomatoes""",
    "berries": """cherries, strawberries, blueberries, raspberries, blackberries, hazelnuts,
        gooseberries, mushrooms, plums, elderberries, cranberries""",
    "cake": """cake, pie, pudding, trifle, crumble, cheesecake, soup, stew, salad, pancake, tart,
        strudel""",
    "drink": """milk, cocoa, tea, lemonade, apple juice, water, ginger beer, hot chocolate, mint
        tea, buttermilk""",
    "spice": """cinnamon, nutmeg, pepper, ginger, vanilla, thyme, mint, parsley, garlic, paprika,
        honey, basil""",
    "place": """meadow, park, garden, orchard, forest, valley, village, field, glade, courtyard,
        town square, vineyard, cornfield, churchyard, market square, playground, bamboo grove, rose
        garden, schoolyard""",
    "near": """by the sea, near the forest, at the edge of town, on top of a hill, beside a brook,
        behind the mill, at the end of a lane, under a big tree, next to a pond, on a small island,
        far away in the mountains, across the river, in a quiet valley, close to the railway,
        between two fields, by a crossroads, beyond the harbor, below the old castle, above a
        waterfall, not far from the bakery""",
    "hideout": """under the bed, behind the curtains, in the cupboard, inside the teapot, beneath
        the stairs, in the wheelbarrow, on top of the wardrobe, under the carpet, behind the stove,
        in the laundry basket, between the cushions, inside a boot, in the mailbox, under a
        flowerpot, behind the woodpile, in the bathtub, among the potatoes, beside the well, in the
        hayloft, under the porch, inside the piano, in the breadbox, behind the rain barrel, in the
        doghouse, under the doormat, in the cellar, beneath the bench, in a drawer""",
    "perch": """the fence, a gatepost, the garden wall, a mossy stone, a low branch, the chimney, a
        rusty bucket, the windowsill, an old stump, the clothesline, the signpost, a haystack, the
        church steeple, a toadstool, the lamppost, a pile of bricks, the handlebars of a bicycle, a
        barrel, the washing, a railing""",
    "bug": """snail, beetle, ladybug, grasshopper, caterpillar, spider, cricket, dragonfly, ant,
        bumblebee, worm, centipede, earwig, moth, firefly, gnat, slug, cockroach, glow-worm""",
    "bugs": """snails, beetles, spiders, crickets, ants, worms, moths, slugs, gnats, wasps, flies,
        earwigs""",
    "winged_bug": "butterfly, dragonfly, ladybug, moth, bumblebee, firefly, mayfly, grasshopper",
    "bird": """robin, sparrow, crow, pigeon, blackbird, magpie, seagull, starling, wren, goose,
        swan, woodpecker, thrush, stork, swallow, finch, raven, cuckoo, jackdaw, nightingale,
        pelican, parrot, hawk, heron""",
    "beast": """cat, dog, goat, cow, sheep, squirrel, lizard, toad, hedgehog, rabbit, mole, weasel,
        donkey, hamster, badger, turtle, pig, raccoon, ferret, newt, guinea pig, chipmunk, llama,
        ox, otter, bulldog, poodle""",
    "baby": """duckling, kitten, puppy, hedgehog, baby owl, lamb, bunny, chick, fawn, gosling,
        piglet, mole, baby squirrel, turtle, fox cub, bear cub, foal, baby bat, cygnet, calf,
        dormouse, chipmunk""",
    "tree": """oak, birch, willow, pine, chestnut tree, maple, apple tree, beech, elm, fir, poplar,
        walnut tree""",
    "flowers": """daisies, tulips, roses, buttercups, poppies, violets, bluebells, sunflowers,
        daffodils, dandelions, lilacs, marigolds, lilies, snowdrops, pansies, primroses,
        cornflowers, forget-me-nots""",
    "plant": """sunflower, pumpkin, beanstalk, cherry tree, rosebush, watermelon, cabbage,
        strawberry plant, orchid, lemon tree, tomato plant, daisy, tulip, apple tree, cactus,
        turnip, pea plant, blueberry bush""",
    "vase": """vase, teapot, china plate, mirror, clay pot, glass bowl, sugar bowl, music box,
        clock, lamp, porcelain swan, picture frame, flowerpot, crystal bird, snow globe, pitcher,
        glass slipper""",
    "build": """raft, tower, treehouse, bridge, cart, fort, windmill, boat, sled, lookout, shed,
        hut, wagon, seesaw, flying machine, stage, go-kart, throne, carousel""",
    "ship": """pirate ship, rocket, submarine, stagecoach, steamboat, whale, canoe, train, airship,
        dragon""",
    "instrument": """violin, tuba, trumpet, drum, accordion, banjo, flute, cello, trombone,
        xylophone, piano, harp, clarinet, ukulele, kazoo, guitar, oboe""",
    "noise": """bump, scratch, creak, squeak, rustle, thump, hoot, rattle, moan, tap, clatter,
        whistle, gurgle, click, rumble, hiss, clank, sniff, growl, crunch, groan, plop, jingle,
        buzz, snort""",
    "skill": """to whistle, to skip rope, to ride a bicycle, to juggle, to tie a bow, to knit, to do
        a cartwheel, to stand on one leg, to skate, to swim backwards, to dance the polka, to play
        chess, to row a boat, to sing in tune, to do a handstand, to skip stones, to read a map, to
        walk on stilts, to bake bread, to play the {instrument}, to count to a hundred, to yodel, to
        wink, to spin a hula hoop, to sew on a button, to fold a paper crane, to roller-skate""",
    "pastime": """sing, dance, paint, climb, splash in puddles, pick flowers, count clouds, tell
        jokes, read stories, hum to {himself}, collect pebbles, jump over ditches, draw dragons,
        bake cookies, whisper to the bees, chase {his} own shadow, play hide-and-seek, fish for
        boots, roll down hills, watch the trains, dig holes, make up songs, feed the ducks, sail
        leaf boats, look at maps, listen to the rain, play tag, eat soup, fly kites, tidy up, take
        naps in the sun, visit the library, invent machines, play marbles, wear hats, ask questions,
        stay up late, swing, stamp on ice, stare at the stars, blow bubbles, argue with the parrot,
        tell tall tales, bounce on the bed, make mud pies, wave to strangers, polish spoons""",
    "shared_pastime": """paint, climb, tell jokes, read stories, dig holes, make up songs, fly
        kites, look at maps, play marbles, feed the ducks, draw dragons, stay up late, blow bubbles,
        eat soup, splash in puddles""",
    "trait": """happy, shy, brave, curious, cheerful, clever, sleepy, silly, polite, stubborn,
        gentle, quiet, noisy, kind, careful, clumsy, lonely, playful, grumpy, messy, tidy, honest,
        dreamy, bold, impatient, thoughtful, hungry, forgetful, busy, proud, friendly, funny, merry,
        restless, serious, adventurous, plump, skinny, fearless, generous, fussy, sensible,
        mischievous, bashful, jolly, fidgety, absent-minded""",
    "nice": """lovely, wonderful, pretty, beautiful, special, splendid, fine, charming, marvelous,
        amazing, perfect, delightful, fancy, precious, remarkable, magnificent, excellent, cute,
        gorgeous, unusual, odd, tiny, handsome, brand-new, funny little, strange, enormous, curious,
        elegant, shiny""",
    "glad": """happy, glad, proud, cheerful, delighted, pleased, joyful, merry, thankful, relieved,
        excited, content, overjoyed, thrilled, grateful, jolly""",
    "sad": """sad, unhappy, gloomy, miserable, upset, glum, disappointed, sorry, heartbroken,
        lonely, tearful, discouraged, downhearted, blue""",
    "scared": "scared, afraid, frightened, nervous, worried, anxious, uneasy",
    "softly": """softly, quietly, gently, slowly, at last, kindly, politely, seriously,
        thoughtfully, firmly, simply, in a small voice, with a nod, after a moment, as bravely as
        {he} could, calmly, under {his} breath, in a hurry, rather loudly, once more, hopefully,
        earnestly, shyly, without blinking""",
    "warmly": """softly, gently, kindly, warmly, wisely, cheerfully, with a smile, with a chuckle,
        with a wink, with a nod, after a while, slowly, calmly, patiently, in a deep voice,
        brightly, as if it were nothing, sleepily, grandly, dreamily, tenderly, dryly, in a low
        voice, with a yawn, solemnly""",
    "went": """walked, ran, hurried, skipped, marched, tiptoed, hopped, raced, strolled, wandered,
        trotted, dashed, scampered, crept, rushed, trudged, galloped, scurried, ambled, bustled""",
    "smell": """cinnamon, wet leaves, fresh bread, old books, roses, smoke, peppermint, warm hay,
        soap, onions, honey, paint, rain, toast, the sea, lavender, pine needles, vanilla""",
    "game": """checkers, cards, dominoes, hide-and-seek, charades, pirates, marbles, shadow puppets,
        chess, tic-tac-toe, hopscotch, explorers, circus, doctor""",
    "cloth": """coat, apron, sweater, jacket, cloak, raincoat, shawl, scarf, nightshirt, vest,
        cardigan, kimono, robe, bathrobe, overcoat""",
    "weather": """sunny, rainy, windy, cold, warm, foggy, snowy, bright, gray, breezy, frosty,
        stormy, misty, hot, cloudy, drizzly, golden, chilly, mild""",
    "season": "spring, summer, autumn, winter, April, June, October, December, May, September",
    "weekday": "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
    "number": "two, three, four, five, six, seven, nine, ten, eleven, twelve, twenty, forty, fifty",
    "ordinal": "third, fourth, fifth, sixth, seventh, ninth, tenth, twelfth, twentieth, hundredth",
    "still": """a stone, a statue, a mouse, a candle, a post, a heron, a picture, a sleeping cat,
        the moon, a teapot, a painted egg, a lamp""",
    "fast": """an arrow, the wind, a hare, a rocket, a train, a swallow, a cat on ice, lightning, a
        greyhound, a rolling barrel, spilled milk""",
    "bright": """a penny, the moon, a lamp, a star, a new spoon, the morning, a sunflower, a candle,
        a jewel, snow, a lighthouse, butter""",
    "seeming": """a dream, a song, a secret, a small sun, a promise, a hug from an old friend, a
        holiday, a warm bath, the first day of summer, a waltz, a birthday""",
    "heavy": """stone, sack of {fruits}, bucket of water, piano, full {container}, wet {cloth}, bag
        of books, anvil""",
    "light": "feather, bubble, pancake, balloon, cloud, snowflake, butterfly, petal, paper plane",
    "container": """basket, barrel, crate, trunk, suitcase, bathtub, jar, chest, sack, wheelbarrow,
        bucket""",
    "monster": """monster, ghost, dragon, crocodile, wolf, witch, tiger with {number} teeth, pirate,
        giant crab""",
    "night_name": """mister velvet, aunt plum, old blackberry, madam ink, uncle hush, big softy,
        captain snooze, miss pillow""",
    "crash": "crash, bang, clang, smash, crack, clatter, boom, thud",
    "mud": """the mud, a fence, a bramble, an old net, a drainpipe, a hollow log, a tangle of
        string, a flowerpot, a thorn bush, a jam jar, a sticky puddle, a rabbit hole""",
    "parcel": "parcel, box, hatbox, bundle, crate, bag, trunk, packet, case, barrel",
    "news": "gossip, moss, string, honeycomb, bark, ribbon, bread, glitter, blue glass, news",
    "finish": """church, bridge, lighthouse, windmill, big rock, well, station, castle gate, river,
        barn, fountain""",
    "thorns": """thorns, brambles, nettles, puddles, thistles, mud, roots, sleeping geese, ditches,
        cobwebs""",
    "dancer": "leaf, ballerina, snowflake, top, feather, whirlwind, king, swan, spark",
    "lump": "stone, knot, lump, pebble, icicle, pinecone",
    "climber": "monkey, squirrel, kitten, raccoon, lizard, marten, lemur",
    "lamp": "lantern, candle, flashlight, torch, lamp, broom",
    "pond": "pond, lake, river, brook, harbor, canal, fountain, millpond",
    "tickle": """shook its head, twitched its ears, rolled its eyes, coughed, looked the other way,
        yawned, blushed""",
    "job": """baker, postman, milkman, mayor, butcher, barber, fireman, teacher, tailor, grocer,
        sailor, florist, plumber, dentist, policeman, painter, cobbler, captain, conductor,
        goatherd, miner, banker, magician""",
    "jobs": """bakers, postmen, bankers, sailors, policemen, grandmothers, soldiers, judges,
        dentists, tourists, tailors""",
    "board_game": "checkers, cards, dominoes, chess, marbles, backgammon, tiddlywinks, tic-tac-toe",
    "bird_trick": """juggle, read, play chess, bake {treats}, ride a bicycle, count to a hundred,
        tell jokes, knit, speak French, tap-dance""",
}

# --------------------------------------------------------------------------------------------------
# phrases: short names for what is said often; these may come again and again within a story
# --------------------------------------------------------------------------------------------------

PHRASES = {
    "very": "[very|very|so|quite|rather|terribly|ever so|really|truly]",
    "soon": """[soon|before long|a moment later|just then|after a while|a little later|at that very
        moment]""",
    "suddenly": """[suddenly|all of a sudden|just then|at that moment|all at once|then , without any
        warning]""",
    "said": "[said|said|said|said|said|whispered|called|declared|announced|murmured]",
    "asked": "[asked|asked|asked|wondered]",
    "cried": "[cried|shouted|yelled|gasped|squealed|exclaimed]",
    "groaned": "[sighed|groaned|sniffed|mumbled|wailed|muttered|grumbled]",
    "laughed": "[laughed|giggled|chuckled|smiled|grinned|burst out laughing]",
    "thought": "[thought|thought|told {himself}|said to {himself}]",
    "felt": "[felt|was|felt]",
    "please": "[please|oh , please|if you please|i beg you]",
    "okay": "[yes|of course|all right|very well|okay|certainly|with pleasure|why not]",
    "oh_no": "[oh no|oh dear|goodness|oh my|bother|good heavens|dear me|what a mess|alas]",
    "hooray": "[hooray|hurrah|wow|look|yippee|at last|oh , look|goody]",
    "says": "[{said} {name}|{name} {said}|{he} {said}|said {name} {softly}|{name} said {softly}]",
    "asks": "[{asked} {name}|{name} {asked}|{he} {asked}|{name} {asked} {softly}]",
    "cries": "[{cried} {name}|{name} {cried}|{he} {cried}]",
    "groans": "[{groaned} {name}|{name} {groaned}|{he} {groaned}]",
    "says2": """[{said} {friend}|{friend} {said}|{he2} {said}|{friend} said {warmly}|said {friend}
        {warmly}]""",
    "says3": """[said {the_elder}|{the_elder} {said}|{the_elder} said {warmly}|said {the_elder}
        {warmly}]""",
    "the_elder": "{his} {elder}",
    "says4": "[said {guide}|{guide} {said}|{guide} said {warmly}|said {guide} {warmly}]",
    "there": "[there was|there was|there lived]",
    "small": "[||little|little|young]",
    "walk": "[{went}|{went}|went]",
    "hugged": "[hugged|kissed|squeezed]",
    "friends": "[{name} and {friend}|{friend} and {name}|the two friends|they|the two of them]",
    "all_day": """[all day|all morning|all afternoon|for hours|until dinner|until sunset|for a long
        time]""",
    "i_am": "[i am|i 'm]",
    "i_will": "[i will|i 'll]",
    "you_are": "[you are|you 're]",
    "did_not": "[did not|did not|did n't]",
    "could_not": "[could not|could not|could n't]",
    "was_not": "[was not|was not|was n't]",
    "it_is": "[it is|it 's]",
    "ever_after": "[from that day on|from then on|after that|ever since|since that day]",
    "best": "[best|finest|nicest|most delicious|very best|strangest and best]",
    "louder": "[louder|stronger|clearer|stranger|faster]",
    "tiny": "[tiny|round|wrinkled|black|funny|smooth]",
    "thin": "[thin|hungry|cold|small]",
    "big": "[big|huge|giant|gigantic|very large]",
}

# --------------------------------------------------------------------------------------------------
# lines: whole sentences and longer pieces
# --------------------------------------------------------------------------------------------------

LINES = {
    "day": """
- one day
- one day
- one day
- one day
- one day
- one {weather} day
- one {weather} morning
- one {weather} {weekday}
- one {season} morning
- one {weekday}
- one {weekday} in {season}
- one {weekday} afternoon
- early one morning
- on the first day of {season}
- on {his} birthday
- one morning , after breakfast
- one day , when the {flowers} were out
- last {weekday}
""",
    "night": """
- one night
- one night
- one {weather} night
- one {weather} night in {season}
- late one {weekday} evening
- one evening , after supper
- one night , when the moon was [full|thin|hidden|yellow|as round as a plate]
- one dark night
- at [nine|ten|eleven] o'clock one night
- one night in {season}
""",
    "opening": """
- once upon a time , {there} a {trait} {small} {kind} {called} . {background} {when} , {name}
- once upon a time , there was a {small} {kind} {called} who lived in {home} . {background} {when} ,
  {name}
- once upon a time , there was a {small} {kind} {called} . {background} {when} , {name}
- once upon a time , there was a {trait} {kind} {called} . {when} , {name}
- once upon a time , a {kind} {called} lived in {home} . {background} {when} , {name}
- once upon a time , a {trait} {small} {kind} {called}
- once upon a time , a {small} {kind} {called}
- once upon a time , a {kind} {called}
- once upon a time , in {home} , {there} a {trait} {kind} {called} . {background} {when} , {name}
- there was a {small} {kind} {called} . {background} {when} , {name}
- there was a {small} {kind} {called} who loved to {pastime} . {when} , {name}
- there once was a {small} {kind} {called} and {he} was {very} {trait} . {background} {when} ,
  {name}
- there once was a {small} {kind} and a {hue} hat , and the hat was too big for the {kind} .
  {by_name} {background} {when} , {name}
- long ago , in {home} , {there} a {trait} {kind} {called} . {background} {when} , {name}
- {when} , a {small} {kind} {called}
- {when} , a {small} {kind} {called}
- {when} , a {small} {kind} {called}
- {when} , a {trait} {small} {kind} {called}
- {when} , a {kind} {called}
- this is the story of a {trait} {kind} {called} . {background} {when} , {name}
- do you know the {kind} {called} in {home} ? {background} {when} , {name}
""",
    "background": """
- {he} loved to {pastime} and to {pastime} .
- {he} liked to {pastime} , [even|most of all|especially] on {weather} days .
- every {weekday} , {he} would {pastime} and then {pastime} .
- {he} lived with {his} {elder} and a {trait} {beast} .
- the house smelled of {smell} , and {his} {elder} sang in the kitchen .
- {he} had a {hue} {cloth} with {number} pockets , and [in each pocket there was a {treat}|all of
  them had holes] .
- {his} {elder} [always said|used to say] that nobody else could be so {trait} and so {trait} at the
  same time .
- {he} was {trait} , and {he} was {trait} too .
- {he} ate {treats} for breakfast and {treats} for lunch .
- {he} had never been farther than the {place} .
- {he} {was_not} very [strong|wise|rich|famous] , but {he} had [many ideas|good ears|a kind
  heart|big plans] .
- everybody in the {place} knew {him} , even the {beast} and the {job} .
- {he} liked nothing better than {flowers} , except {treats} .
- {he} had a {nice} {hue} {toy=thing} and a pet {bug} , and that was all .
- {he} wanted to be a {job} when {he} grew up .
- some days {he} was {trait} , and some days {he} was {trait} , but {he} was never [bored|rude|late
  for dinner] .
""",
    "day_aside": """
- a {bug} on {perch} stopped to listen .
- a {bird} on {perch} laughed so hard that it almost fell off .
- the {beast} next door {tickle} .
- the sun hid behind a cloud , as if it {did_not} want to look .
- the air smelled of {smell} .
- somewhere a {bird} was singing [about nothing at all|out of tune|the same song again and again] .
- a {bug} [crawled|hurried|strolled] past and {did_not} even say hello .
- the {flowers} nodded in the wind .
- the clock in the {place} struck {number} .
- high up in the {tree} , a {bird} and a {bird} were having an argument .
- a {beast} came by with a basket of {fruits} , looked , and went away again .
- " this will not end well , " said a {bug} on {perch} , but nobody heard it .
- the wind turned a page in the {job} 's newspaper .
- a leaf fell from the {tree} and landed on a {beast} , who went on sleeping .
- far away , a train went by with a long , [sad|soft|silly] whistle .
- the {job} waved from the window , and so did the {job} 's {beast} .
- for a moment it was so quiet that you could hear a {bug} sneeze .
- in the {place} , a {job} was selling {treats} , but [nobody was hungry|it was too early for that]
  .
- {number} {fruits} rolled down the street , and nobody knew why .
- the shadow of the {tree} grew [long|short|blue|thin] .
- a {bird} wrote it all down , or at least it looked that way .
- the {beast} on {perch} opened one eye and closed it again .
""",
    "night_aside": """
- a {bug} on {perch} stopped to listen .
- the clock in the {place} struck {number} .
- for a moment it was so quiet that you could hear a {bug} sneeze .
- far away , a train went by with a long , [sad|soft|silly] whistle .
- an owl said something to a {beast} , but the {beast} was asleep .
- the moon went behind a cloud , as if it {did_not} want to look .
- the wind rattled the {job} 's mailbox .
- somewhere a {beast} was snoring .
- the {flowers} had closed their eyes long ago .
- the air smelled of {smell} .
""",
    "feeling": """
- {name} {felt} {very} {sad} .
- {name} was {sad} and a little {scared} .
- that made {name} {sad} .
- a tear rolled down {his} nose and fell into the {flowers} .
- {name} {did_not} know whether to laugh or to cry .
- {he} sat down on the ground and {did_not} say a word .
- {his} heart was as heavy as a {heavy} .
- {name} wanted to cry , but {he} took a deep breath instead .
- {he} {felt} {sad} from {his} nose to {his} toes .
""",
    "joy": """
- {name} {felt} {very} {glad} .
- {name} was so {glad} that {he} danced [a jig|in a circle|with a broom|up and down the stairs] .
- {his} heart was as light as a {light} .
- {name} smiled from ear to ear .
- it felt like {seeming} .
- {he} had not been so {glad} since {season} .
- {he} was {glad} , and a little bit [tired|sleepy|hungry|surprised|dizzy|out of breath|muddy] .
- {his} face shone as bright as {bright} .
- {he} {laughed} until {his} tummy hurt .
- nobody in the whole {place} was as {glad} as {name} .
""",
    "day_closing": """
- the end .
- and that is the end of the story .
- that night , {name} dreamed of {treats} , {flowers} and a {bird} that could {bird_trick} .
- and if you walk past the {place} on a {weather} day , you can still hear them laugh .
- at bedtime , {his} {elder} tucked {him} in , and the moon looked through the window .
- and the {bug} on {perch} ? it had listened to everything , and it went home to tell its {number}
  sisters .
- then it was time to eat , and there were {treats} for everyone .
- and they all had {drink} and {treats} .
- when {name} went to bed , {he} was still smiling .
- ever since , there has been a picture of it on the wall , right next to the clock .
- if you ask {him} about it today , {he} will [laugh|turn pink|tell you all of it twice] .
- and that was how {name} spent the day .
""",
    "night_closing": """
- the end .
- and that is the end of the story .
- {name} dreamed of {treats} , {flowers} and a {bird} that could {bird_trick} .
- the next morning , {he} told it to the {job} , who {did_not} believe a word .
- and the {bug} on {perch} ? it had listened to everything , and it went home to tell its {number}
  sisters .
- the stars over the {place} winked at each other .
- if you ask {him} about it today , {he} will [laugh|turn pink|tell you all of it twice] .
- good night , {dear} .
""",
    "moral": """
- the moral of the story is that {lesson} .
- {ever_after} , {name} knew that {lesson} .
- and so {name} learned that {lesson} .
- " you see , " said {his} {elder} [later|afterwards|the next day] , " {lesson} . "
- {name} never forgot that {lesson} .
- that day {name} learned something : {lesson} .
""",
}

# --------------------------------------------------------------------------------------------------
# families: who may be the hero, day or night, then the parts; any problem, attempt and turn go
# together, and a lesson with the name of a part is kept for the stories that tell that part
# --------------------------------------------------------------------------------------------------

FAMILIES = {}  # one entry a page

FAMILIES["lost"] = """
cast: child beast winged folk
when: day

# problem
- gone: woke up and looked for {his} {color=hue} {thing=thing} . it {was_not} on the shelf , and it
  {was_not} {hideout} . " where is my {thing} ? " {asks} . [{he} {could_not} start the day without
  it|it had been a present from {his} {elder}|{he} had slept with it every night since {he} was a
  baby] .
- pocket: was on the way home from the {place} with {his} {nice} {color=hue} {thing=thing} in a bag
  . {he} {did_not} see that there was a hole in the bag . when {he} came home , the bag was empty .
  " {oh_no} ! my {thing} is gone ! " {cries} .
- berries: took {his} {color=hue} {thing=thing} to the {place} . {he} put it down [for a minute|in
  the grass|next to a {tree}] to pick some {berries} . there were [so many|sweet ones and sour ones]
  , and {he} {walk} on and on . when {he} turned around , {he} {could_not} find the {thing} anywhere
  .

# attempt
- search: {he} looked {hideout} and {hideout} . {he} looked {hideout} , where {he} found [an old
  {treat}|a {bug}|a letter from {season}|only dust] , but there was no {thing} . {feeling}
- ask: {he} asked everybody . " have you seen a {color} {thing} ? " " no , " said the {beast} , "
  but i have seen {number} {fruits} . " " no , " said the {job} , " but i have lost my {hat=cloth} .
  have you seen a {hue} {hat} ? " [nobody could help|it was no use] .
- none: []

# turn
- magpie: {suddenly} , {name} saw something {color} in the nest of a {thief=bird} . " {i_am} sorry ,
  " said the {thief} . " it was so {nice} , and my nest is so empty . " {name} thought about it . "
  will you take {number} {flowers} for it ? " {asks} . the {thief} liked [that even more|the
  idea|flowers] , and it gave the {thing} back .
- mended: {soon} , {pal} came [running|down the road|around the corner] with something behind {his2}
  back . " i found it [yesterday|on {weekday}|on the road] , and it was [broken|dirty|scratched] , "
  {says2} . " i wanted to make it nice again . it was going to be a surprise ! " and there was the
  {thing} , as good as new .
- nest: then {he} heard a tiny [snore|yawn|sneeze|peep] . it came from [the bushes|a heap of
  leaves|the woodpile|the tall grass] . {name} looked , and there was the {thing} , and close beside
  it lay a baby {beast} , fast asleep . {he} {did_not} want to wake it , so {he} sat down and waited
  {all_day} . when the baby woke up , it [licked {his} nose|blinked at {him}|said thank you] and ran
  home to its mother .

# end
- hug: {name} {hugged} the {thing} . " {i_will} never lose you again , " {says} . {joy}
- share: {joy} {he} showed the {thing} to {his} {elder} . " {hooray} ! you got it back ! " {says3} .
  {ever_after} , the {thing} had a place of its own , [right beside the bed|on the windowsill|next
  to the teapot|on a {hue} cushion] .

# lesson
- care: we should take good care of the things we love
- patience: lost things come back to those who are [kind|patient|gentle]
- ask: {it_is} good to look [twice|everywhere] , and better to ask
"""

FAMILIES["stuck up high"] = """
cast: child beast folk
when: day

# problem
- wind: was playing in the {place} with a {color=hue} {flyer=flyer} . {suddenly} , the wind came and
  [blew|carried|swept] it away . up and up it went , until it [got stuck|was caught|landed] in the
  top of a tall {tree=tree} . " come back ! " {cries} . but the {flyer} {did_not} come back .
- throw: threw {his} {color=hue} {flyer=flyer} into the air , higher and higher . " look how high it
  goes ! " {cries} . it went so high that it got caught in a {tree=tree} . [that was too high|there
  it stayed|it {did_not} come down again] .
- thief: put {his} {color=hue} {flyer=flyer} on a bench . a [naughty|cheeky|quick|greedy] {climber}
  took it and ran up a {tree=tree} . it left the {flyer} on the very highest branch and
  [laughed|waved its tail|went to sleep] . " that is not fair ! " {cries} .

# attempt
- jump: {name} jumped as high as {he} could . {he} jumped {number} times . {he} jumped from a stone
  and from a [stool|box|barrel|stump] . " {i_am} too small , " {groans} , " or the {tree} is too
  tall . " {feeling}
- boxes: {name} put a {lower=container} on a box , and a pail on the {lower} . {he} climbed to the
  very top . the tower [shook|wobbled|swayed|leaned] to the left and to the right , and {crash} !
  {name} sat in the [grass|mud|flowers|nettles] with the pail on {his} head .
- none: []

# turn
- shoulders: {soon} , {pal} came by . " {i_am} not tall , and {you_are} not tall , " {says2} . " but
  we are tall together ! " {name} climbed on {friend} 's shoulders and reached up , and up , and up
  . with the tip of a stick {he} could just touch the {flyer} , and down it came .
- polite: {a_guide} had watched it all . " a {tree} does not listen to [shouting|anger|tears|reason]
  , " {says4} . " have you asked the birds ? " so {name} looked up and said , " {please} , can you
  help me ? " a {helper=bird} [flew|fluttered|flapped] up to the branch , and the {flyer} fell right
  at {his} feet .
- rest: {name} gave up and lay down in the grass to look at the clouds . one looked like a {beast}
  and one looked like a {thing} . then the wind [came back|woke up|changed its mind] . it shook the
  {tree} , just a little , and the {flyer} came down as softly as a {light} and landed on {his} nose
  .

# end
- again: " {hooray} ! " {cries} . {joy} {he} played with the {flyer} {all_day} , but only where
  there were no trees .
- thanks: {name} said thank you , and thank you again , and one more time to the {tree} . {joy}

# lesson
- shoulders: two friends can reach higher than one
- polite: a kind word can climb the tallest tree
- rest: {it_is} sometimes best to wait a little
"""

FAMILIES["afraid"] = """
cast: child beast winged folk
when: night

# problem
- dark: was lying in bed and {could_not} sleep . the lamp was out , and the room was as dark as
  [ink|a cellar|the inside of a boot|a coal sack] . " what if there is a {monster} {hideout} ? "
  {he} {thought} . {name} was {very} {scared} .
- thunder: was almost asleep when the thunder came . boom ! it rolled over the {place} like [a
  hundred barrels|a giant with a drum|a cart full of stones] , and the lightning was
  [white|yellow|blue] . {name} was {very} {scared} . " i do n't like it , " {groans} .
- shadow: saw a [long|crooked|black|thin] shadow on the wall . it had {number} fingers , and it
  [moved|waved|nodded] when the wind blew . {name} {felt} {very} {scared} . {he} {did_not} know that
  it was only the {tree} outside the window .

# attempt
- hide: {he} pulled the {hue} blanket over {his} head . it was [hot|stuffy|even darker] under there
  , and {his} own heart went thump , thump , thump . {he} tried to be as still as {still} . it
  {did_not} help .
- sing: {he} tried to sing a song about {treats} . but {his} voice was [shaking|thin|small] , and
  the song came out like the squeak of a [door|gate|swing|shoe] . then {he} counted {fruits} : one ,
  two , three ... but counting {did_not} help either .
- none: []

# turn
- elder: the door opened , and {his} {elder} came in with a [candle|lantern|cup of {drink}] . " can
  i tell you a secret ? " {says3} . " when i was as little as you , i was {scared} too . then i gave
  the night a name . i called it {night_name=night_name} . {it_is} hard to be
  [scared|afraid|frightened] of someone called {night_name} . " {name} {laughed} .
- friend: {suddenly} , somebody knocked at the window . it was {pal} , wrapped in a {hue} {cloth} .
  " are you {dread=scared} ? " asked {friend} . " no , " said {name} . " are you ? " " no , " said
  {friend} . they looked at each other . " maybe a little , " they said at the same time , and then
  they both {laughed} .
- smaller: then {he} heard a sob . on the windowsill sat a tiny {small_one=bug} . " {i_am}
  {dread=scared} , " it said , " and nobody is with me . " " come here , " {says} . " {i_am} big ,
  and {i_will} stay with you . {it_is} only [the night|the weather|the wind and the {tree}] . " and
  while {he} was [telling it so|saying it|stroking its back] , {name} noticed that {he} {was_not}
  {dread} any more .

# end
- sleep: [outside , the moon came out|the night grew quiet|somewhere an owl called good night|a
  single star looked in] . {name} closed {his} eyes , and [soon|before long|a moment later|after a
  while] {he} was fast asleep .
- morning: in the morning , the sun was shining on the {flowers} . " that {was_not} so bad , "
  {says} . {he} was {very} {glad} , and {he} ate {number} {treats} for breakfast .

# lesson
- brave: being brave does not mean that {you_are} never afraid
- tell: it helps to tell somebody when {you_are} scared
- shadow: most big shadows have something small behind them
"""

FAMILIES["quarrel"] = """
cast: child beast winged folk
when: day

# problem
- found: and {pal} were [walking|playing|strolling|having a picnic] in the {place} when they saw a
  {nice} {color=hue} {thing=thing} in the grass . " i saw it first ! " {cries} . " no , i did ! "
  {cried} {friend} . " {it_is} mine ! " " no , mine ! "
- gift: and {pal} got a present from {name} 's {elder} . it was a {color=hue} {thing=thing} . there
  was only one , and there were two of them . " [i want|i 'd like] to have it first , " {says} . "
  no , me first , " said {friend} , " because {i_am} [older|younger|taller|a guest] . "
- stall: and {pal} put their coins together and bought a {nice} {color=hue} {thing=thing} at the
  market . on the way home they began to argue . " it will live in my house , " {says} . " no , in
  mine ! " {cried} {friend} . " you will only [break|lose|spoil|forget] it . "

# attempt
- pull: {name} pulled on one side , and {friend} pulled on the other . they pulled {all_day} . they
  got red in the face , and they called each other [a pickle|a turnip|an old sock|a rotten egg|a wet
  noodle] . neither of them would let go .
- contest: " let 's have a contest , " {says} . " who can stand on one leg longer ? " they stood on
  one leg {all_day} . then they fell over at the same time , and nobody had won . both of them were
  {very} cross .
- none: []

# turn
- thief: {suddenly} , a {thief=bird} [flew down|came down from a {tree}|swooped out of the sky] ,
  took the {thing} and flew away with it . {name} looked at {friend} , and {friend} looked at {name}
  . " now we have nothing , " {says2} . " we have each other , " {says} . then they laughed so
  loudly that the {thief} was [startled|confused|curious] and dropped the {thing} between them .
- judge: {a_guide} came by and listened . " {i_will} give it to the one who can say something nice
  about the other , " {says4} . it was quiet for a while . " {friend} [always waits for me|makes me
  laugh|is never mean to {bugs}] , " said {name} . " {dear} [gave me a {treat} yesterday|taught me
  to whistle|is my best friend] , " said {friend} . and then neither of them minded any more , so
  they shared the {thing} .
- sorry: then {name} saw a tear on {friend} 's nose . [the {thing} {did_not} look so {nice} now|all
  at once {his} {hands} let go] . " {i_am} sorry , " {says} . " you can have it today . " " and you
  can have it tomorrow , " {says2} . " and on {weekday} we will play with it together . "

# end
- play: so {friends} played with the {thing} {all_day} , and they had more fun than [ever before|a
  {beast} in a mud puddle|on {number} birthdays] . {joy}
- treat: {name} broke a {treat} in two and gave the bigger half to {friend} . {joy} {friend} was
  {glad} too .

# lesson
- share: sharing makes a small thing big
- friend: a friend is worth more than any toy
- sorry: {it_is} never too late to say sorry
"""

FAMILIES["cooking"] = """
cast: child beast folk
when: day

# problem
- birthday: wanted to make a {nice} {cake=cake} for {pal} . it was {friend} 's birthday , and there
  was going to be a party in the {place} . {name} took a big bowl and a {hue} spoon . " it will be
  the best {cake} in the world , " {says} .
- ill: heard that {his} {elder} was sick in bed . " {i_will} make a {nice} {cake=cake} , " {says} .
  " that will help . " {name} had never made a {cake} before , but {he} put on a {hue} apron and
  washed {his} {hands} .
- fair: saw a poster in the {place} . it said , " {cake=cake} contest ! the winner gets a {hue}
  {thing} ! " " {i_will} win that , " {says} , and {he} {walk} home to the kitchen to make a {nice}
  {cake} .

# attempt
- salt: {he} stirred and stirred . {he} put in {number} {fruits} , a little {spice} and a whole cup
  of sugar . but it {was_not} sugar . it was salt ! {name} took a bite . " yuck ! " {cries} . even
  the {beast} would not eat it .
- burnt: {he} put it in the oven and went out to {pastime} . {he} stayed [too|much too|far too] long
  . when {he} came back , the kitchen was full of smoke , and the {cake} was as black as [coal|a
  hat|a crow|midnight|a chimney sweep] . " {oh_no} ! " {groans} .

# turn
- helper: {soon} , {pal} [looked in at the window|knocked at the door|smelled it and came over] . "
  do n't be {sad} , " {says2} . " let 's make a new one together . you stir , and {i_will} read the
  recipe aloud . " so they mixed and tasted and counted to {number} , and {friend} watched the oven
  like a hawk .
- baker: {name} went to ask {a_guide} . " my [first|second|last] {cake} was worse than yours , "
  {says4} . " it broke a window . here is my secret : read every word , taste everything , and do
  not run away . " so {name} tried again , very slowly , with {number} {fruits} and a pinch of
  {spice} .
- odd: " then {i_will} make it my own way , " {says} . {he} started again with {fruits} , {fruits}
  and a little {spice} . the new {cake} came out [flat|lumpy|very thick|{hue}|much too big] , with
  {flowers} on top . it looked very strange . but it smelled of {smell} and {smell} .

# end
- eat: everybody had some , and then some more . " this is the {best} {cake} [i have|i 've] ever had
  ! " said {his} {elder} . {joy}
- crumbs: in the end , there was nothing left , and the {beast} licked the plate . " will you make
  it again [tomorrow|next {weekday}|soon] ? " they all asked . {joy}

# lesson
- again: if it goes wrong , you can try again
- love: the most important thing in a kitchen is love
- slow: good things take time
"""

FAMILIES["small one in need"] = """
cast: child beast winged folk
when: day

# problem
- stuck: heard a [tiny|thin|sad|weak] voice in the {place} . a {baby=baby} was stuck in {mud} , and
  it {could_not} get out . " {please} , help me , " it said . it was {very} {scared} .
- mother: met a {baby=baby} [at the side of the road|under a {tree}|behind the {job} 's shop] . it
  was crying . " i can not find my mother , " it said . " she told me not to chase the {bug} , but i
  did . " {name} felt sorry for it .
- cold: found a {baby=baby} [in the rain|in a puddle|under a wet leaf] . it was wet and
  [shivering|trembling|shaking|dripping] , and it had [lost its way|hurt its foot|fallen out of a
  basket] . " you poor little thing , " {says} . " where do you live ? " but the {baby} only sneezed
  .

# attempt
- food: {name} held out a piece of {his} {treat} . but the {baby} {did_not} know {him} . it [hid its
  face|closed its eyes|made itself as small as a button] and would not eat . " i wo n't hurt you , "
  {says} , but it only shook .
- call: {name} called for help as loud as {he} could . [nobody came|only a {bug} came|there was no
  answer|the {job} {did_not} hear] . {he} had only made the {baby} more {scared} . {feeling}
- none: []

# turn
- hum: so {name} sat down beside it and hummed a song , the one {his} {elder} always hummed . {he}
  hummed it {number} times . after a while , the {baby} [grew quiet|stopped crying|looked up] , and
  at last it [leaned on {his} knee|held out a foot|smiled at {him}] . then {he} took it , very
  carefully , all the way to its home {near} .
- blanket: {soon} , {pal} came with a {hue} blanket and a {container} . " we can carry it together ,
  " {says2} . they pulled and they lifted and they [wrapped it up|dried its ears|rubbed it warm] ,
  and they took turns all the way to its home {near} . they told it the story of the {beast} and the
  {job} , and the {baby} forgot to be {scared} .
- mother-comes: {suddenly} , there was a noise in the [bushes|grass|leaves|reeds] . it was the
  {baby} 's mother ! she had been looking for it {all_day} . together they got it [warm and dry|safe
  and sound|on its feet again] . " how can i ever thank you ? " she asked . " you do n't have to , "
  {says} .

# end
- visit: {ever_after} , the {baby} came to visit every {weekday} . it always brought something : a
  {fruit} , a {hue} stone , or a bit of {news} . {joy}
- wave: when it was time to go , the {baby} turned around {number} times to say goodbye . {name}
  waved until {his} arm hurt . {joy}

# lesson
- small: nobody is too small to be helped , and nobody is too small to help
- hum: a quiet voice can do more than a loud one
- kind: kindness always finds its way home
"""

FAMILIES["broken and hidden"] = """
cast: child beast folk
when: day

# problem
- ball: was playing with a {hue} ball in the house , although {his} {elder} had said , " not inside
  ! " the ball bounced off the wall , hit the [cupboard|curtain|table|shelf] and knocked over {his}
  {elder} 's {color=hue} {vase=vase} . {crash} ! there it lay in {number} pieces .
- sweets: wanted the {treats} on the top shelf . they were for [Sunday|the guests|later|the {job}] ,
  but {he} climbed on a chair all the same . {his} elbow touched the {color=hue} {vase=vase} that
  {his} {elder} loved so much . {crash} ! it fell down and broke .
- dance: was alone at home and danced from room to room like a {dancer} . {he} turned and turned ,
  and {did_not} see the {nice} {color=hue} {vase=vase} that belonged to {his} {elder} . {crash} ! "
  {oh_no} , " {says} .

# attempt
- hide: {name} picked up the pieces and hid them {hideout} . then {he} sat down with a book and
  tried to look {trait} . but the book was upside down . " have you seen my {vase} ? " asked {his}
  {elder} . " n - no , " {says} .
- blame: " who did this ? " asked {his} {elder} . {name} looked at {his} feet . " it was the
  {culprit=beast} , " {he} {said} . " it came in , it [danced|coughed|bowed|slipped] , and it left .
  " " the {culprit} ? " asked {his} {elder} . " yes , the {culprit} , " said {name} , and {his} ears
  turned red .
- none: []

# turn
- tummy: at supper there were {treats} , but {name} {could_not} eat . there was a hard little
  {stone=lump} in {his} tummy , and it grew and grew . at last {he} jumped up . " it was me ! "
  {cries} . " i broke the {vase} , and {i_am} {very} sorry . " and the {stone} was gone .
- piece: {suddenly} , {his} {elder} held up a small {color} piece . " i found this [in the hall|on
  the floor|under my shoe|in my slipper] , " {he3} said . {he3} {did_not} shout . {he3} only waited
  , and that was worse than shouting . {name} began to cry . " i broke it , " {he} said , " and then
  i was {scared} . "
- letter: {name} {could_not} sleep that night . the moon looked in , and it seemed to know . so {he}
  got up , took a {hue} pencil and wrote : " dear {elder} , it was me . i broke the {vase} . {i_am}
  sorry . love , {dear} . " {he} pushed the letter under the door and waited .

# end
- glue: {his} {elder} took {him} in {his3} arms . " thank you for telling the truth , " {he3} {said}
  . " that was harder than [gluing|mending|fixing] a {vase} . " then they got the glue , and
  [soon|before long|by evening] the {vase} stood on the shelf again . it was a little crooked , but
  they both liked it better that way .
- forgive: " {i_am} not happy about the {vase} , " {says3} , " but {i_am} happy about you . " they
  swept the floor together and put {flowers} in a jam jar . {joy}

# lesson
- truth: the truth is lighter to carry than a lie
- things: things can break , but love does n't
- tell: {it_is} better to say what you did
"""

FAMILIES["boast"] = """
cast: child beast folk
when: day

# problem
- race: told everybody , " {i_am} the fastest in the whole {place} . {i_am} as fast as {fast} ! " "
  then let 's all race , " said {pal} . " from the {tree} to the {finish=finish} . whoever comes
  last has to carry the {container} home . "
- strong: said to {pal} , " {you_are} too [slow|small|weak|young] to be in the big race on {weekday}
  . {i_am} going to win it , and {i_will} win it with my eyes closed . from here to the
  {finish=finish} , {it_is} nothing ! " {friend} {did_not} say anything .
- prize: read that there was going to be a race to the {finish=finish} , and that the prize was a
  {nice} {hue} {thing} . " you can give it to me right now , " {name} told the {job} . " nobody else
  can win . " {pal} wanted to run too , and {name} [laughed at|made fun of|made a face at] {him2} .

# attempt
- crowd: on the way to the start , {name} bowed to the {beast} , to the {bird} and to a {job} . {he}
  told each of them how {trait} {he} was . when the whistle blew , {he} was still talking , and {he}
  had to hurry to catch up .
- shortcut: [one , two , three , go|ready , steady , go|on your marks , get set , go] ! {name} knew
  a shortcut through the {place} . but the shortcut was full of {thorns} . {he} tore {his} {hue}
  {cloth} on a branch , and when {he} came out , the others were [far ahead|already by the
  {tree}|gone] . {he} had to run twice as fast .

# turn
- puddle: {name} ran faster and faster and looked only at the sky . splash ! {he} fell into a
  [deep|cold|muddy|wide] [ditch|puddle|pond|stream] and {could_not} get out . the others ran past .
  only {friend} stopped . " hold on to me , " {says2} . " but you will lose , " {says} . " so what ?
  " said {friend} .
- nap: {soon} {name} was so far in front that {he} lay down under a {tree} . " i have time for a
  [nap|little sleep|dream or two] , " {he} {thought} . {he} dreamed of {number} gold cups . when
  {he} woke up , everybody was cheering . {friend} had come in first , one [slow|steady|small] step
  after the other .
- help: right before the {finish} sat a {baby=baby} in the middle of the path , crying . {name}
  jumped over it . but {friend} stopped , picked it up and took it to its mother . {name} got to the
  {finish} first , and nobody clapped . they were all [looking at|clapping for|hugging] {friend} .
  {name} {felt} {very} small .

# end
- sorry: {name} went to {friend} . " {i_am} sorry , " {says} . " i talked too much . {you_are} the
  best of us all . " " {you_are} [good too|not so bad either] , " {says2} , " when you look where
  {you_are} going . " and they walked home side by side .
- share: {friend} {was_not} angry at all . {he2} gave {name} half of {his2} {treat} , and they ate
  it together [in the shade|on a bench|on the steps|in the grass] . " next time , let 's run
  together , " {says} . {joy}

# lesson
- pride: those who boast the most often run the slowest
- friend: helping a friend is better than winning
- nap: slow and steady is a good way to get there
"""

FAMILIES["building"] = """
cast: child beast folk
when: day

# problem
- far: looked across the {place} and had an idea . " {i_will} build a {build=build} , " {says} . " a
  {build} with a {flag=hue} flag on it ! then everybody will come to see me . " {he} had a hammer ,
  {number} nails and no patience at all .
- story: read a story about a {job} and a {nice} {build=build} with a {flag=hue} flag . " i want one
  too , " {says} . there was no {build} to be had in any shop , so {name} went out to the {place}
  and began to collect [sticks|boards|planks|branches] .
- gift: wanted to surprise {his} {elder} . " {he3} always wished for a {build=build} with a
  {flag=hue} flag , " {he} {thought} , " and nobody ever made one . " so {name} took the {hue}
  toolbox and {walk} to the {place} , where nobody could see what {he} was doing .

# attempt
- hurry: {name} worked very fast . {he} {did_not} measure anything , and {he} used
  [string|jam|chewing gum|good wishes] where there should have been nails . it looked {nice} for
  {number} seconds . then a {bug} sat down on it , and {crash} ! it all fell down .
- paper: {name} made it out of boxes and paper , and {he} painted it {wet=hue} . it was {nice} . but
  in the night came the rain , and in the morning there was only a {wet} puddle . " {oh_no} , "
  {groans} . {feeling}

# turn
- friends: {soon} , {pal} came to see . then came the {beast} , the {job} and the {job} 's {number}
  children . one brought a saw , one brought rope , and one brought {treats} . " you hold this , and
  {i_will} hold that , " {says2} . [everybody sang|nobody was in a hurry|there was a lot of
  laughing] , and piece by piece , the {build} grew .
- spider: {name} sat down and put {his} chin in {his} {hands} . in front of {him} , a spider was
  making its web . the wind tore it , and the spider began again . it tore again , and the spider
  began again , and never once did it say a bad word . " well , " {says} , " if you can do it , so
  can i . " and {he} began again , slowly , from the bottom up .
- knots: {a_guide} stopped and looked at the mess . " a good {build} starts with a good knot , "
  {says4} , and {he4} showed {him} how to tie one : over , under , around and through . {name} tied
  {number} knots that day . the first was [loose|crooked|a disaster|a little sad] , but the last
  would have held an elephant .

# end
- flag: in the evening , the {build} was ready . {name} put the {flag} flag on top . " {hooray} !
  {it_is} done ! " {he} {cried} . {joy}
- test: would it hold ? the {beast} sat down on it first , and then [the {job}|everyone else|{his}
  {elder}|a {bird}] did . it held ! {his} {elder} clapped . " that is the [best|finest|nicest]
  {build} [i have|i 've] ever seen , " {he3} {said} . {joy}

# lesson
- slow: what is built in a hurry falls down in a hurry
- again: you have not lost until you stop trying
- friends: many hands make a big job small
"""

FAMILIES["noise in the night"] = """
cast: child beast winged folk
when: night

# problem
- floor: woke up because of a noise . {noise=noise} , {noise} , {noise} ! it came from under the
  floor . {name} sat up and listened with both ears . it was {number} o'clock , and everybody else
  was asleep .
- chimney: was just about to blow out the candle when there was a {noise=noise} in the chimney . a
  little soot fell down , and then it was quiet . then it came again : {noise} ! {name} {felt}
  {very} {scared} , and a little curious too .
- barn: heard something outside . {noise=noise} , it went , and then again , {noise} . it came from
  behind the [shed|barn|well|henhouse] . {name} put on {his} {hue} {cloth} and {his} slippers and
  took a {lamp} .

# attempt
- call: " who is there ? " {asks} . nobody answered . " i have a very big {beast} with me , " {he}
  {said} , although {he} had only a {thing} . the noise stopped . then it began again , {louder}
  than before .
- trap: {name} tied a string from the door to the table and hung {number} spoons on it . then {he}
  put a {treat} in the middle of the floor and waited . {he} waited until {he} [yawned|nodded|almost
  fell asleep] , and then all the spoons rang at the same time !
- none: []

# turn
- baby: {name} held up the light . there sat a {baby=baby} with its head in a jam jar . it
  {could_not} get out , and it walked into things : {noise} , {noise} , {noise} . {name} pulled ,
  and plop ! the {baby} was free . " thank you , " it said . " it was dark in there , but it was
  {very} [sweet|tasty|sticky] . "
- music: {name} took a deep breath , and {he} opened the door . there stood {pal} with a
  [big|rusty|borrowed] {instrument=instrument} . " {i_am} practicing for {weekday} , " {says2} . " i
  {did_not} want anyone to hear me , because {i_am} still so bad at it . " " that was a {instrument}
  ? " {asks} .
- snore: {name} {went} after the noise , step by step , and it grew {louder} and {louder} . at last
  {he} found {his} {elder} asleep in a chair , with a book on {his3} nose . with every breath the
  book went up , and with every breath it went down again : {noise} !

# end
- laugh: {name} began to laugh and {could_not} stop . {joy} then {he} went back to bed , and the
  noise {did_not} [bother|frighten|wake] {him} any more .
- cocoa: {name} warmed some {drink} , and they sat in the kitchen and ate {treats} until the stars
  [went out|grew pale|were tired] . {joy}

# lesson
- look: a noise is only scary until you know who makes it
- light: {it_is} good to bring a light , and better to bring a friend
- curious: a curious heart is stronger than a frightened one
"""

FAMILIES["wishes"] = """
cast: child beast winged folk
when: day

# problem
- lamp: found a [dusty|rusty|cracked|crooked] {hue} {magic=magic_thing} {hideout} . {he} rubbed it
  with {his} sleeve , and it began to [glow|hum|smoke|shake] . " {i_am} the magic {magic} , " it
  said . " you have [three|two|five] wishes . be careful with them ! "
- paid: helped {a_guide} carry a heavy {container} . " take this {magic=magic_thing} , " {says4} . "
  it looks like nothing , but it can do magic . it likes polite people . " and {he4}
  [winked|nodded|bowed|sneezed] and was gone .
- sky: saw something fall from the sky . it landed in the {flowers} with a little {noise} . it was a
  {hue} {magic=magic_thing} , and it was still warm . " make a wish , " said a voice from inside .

# attempt
- food: " i wish for {treats=treats} ! " {cries} . " more {treats} than anybody ever had ! " and it
  rained {treats} . they fell on the roof and into the well , and they filled the house up to the
  [window|ceiling|chimney|keyhole] . nobody could open the door . the {job} swam to work through the
  {treats} .
- big: " i want to be big , " {says} . " bigger than the {tree=tree} ! " and {he} grew and grew .
  now {his} head was in the clouds , where it was {very} cold . {he} {could_not} get into {his}
  house , and when {he} sneezed , {number} {jobs} lost their hats . {feeling}

# turn
- undo: " i do n't want this any more , " {groans} . " i wish that everything was just as it was
  before ! " there was a [flash|puff of smoke|clap of thunder|pop] , and then there was only the
  {place} , and the sun , and a {bug} on {perch} .
- friend: then {he} heard {pal} calling from [far below|outside|down the road] . " have you asked
  the {magic} what it wants ? " {asked} {friend} . nobody had ever asked it that . " i want to go
  home , " said the {magic} , and it began to cry . " then go home , " {says} . and as it flew away
  , all its magic went with it .
- polite: " you forgot to say please , " said the {magic} . " that is why it always goes wrong . "
  {name} thought it over . " please , " {says} , " i wish for something small . i wish for [a quiet
  afternoon|a good idea|one nice day with {pal}] . " " now that , " said the {magic} , " is a wish !
  "

# end
- home: everything was [back in its place|quiet again|just right] . {name} went home and ate one
  {treat} , only one , and it tasted better than {number} of them . {joy}
- give: {name} took a deep breath and looked around . the {flowers} were {hue} , the soup smelled of
  {smell} , and {his} {elder} was calling {him} . there was nothing left to wish for . {joy}

# lesson
- enough: enough is better than too much
- careful: you should think before you wish
- here: the best things are often already here
"""

FAMILIES["learning"] = """
cast: child beast folk
when: day

# problem
- all: noticed that everybody could do it but {him} . {his} {elder} knew how {skill=skill} , the
  {job} knew how {skill} , and even the {beast} next door did . " [i want|i 'd like] to learn how
  {skill} too , " {says} .
- show: heard that there would be a show in the {place} on {weekday} . " what can you do ? " asked
  the {job} . " {i_will} show you how {skill=skill} , " said {name} . but there was a problem : {he}
  {did_not} know how .
- saw: saw {a_guide} in the {place} . {he4} was showing the children how {skill=skill} , and {he4}
  made it look easy . {name} had never seen anything so {nice} . " [i want|i 'd like] to do that , "
  {he} {thought} .

# attempt
- alone: {he} tried it [in the garden|behind the house|in front of the mirror] . the first time {he}
  fell into the {flowers} . the second time {he} frightened a {bird} . the third time was [worse|the
  worst|not much better] . " {i_will} never learn it , " {groans} . {feeling}
- advice: everybody had advice . " close your eyes , " said the {job} . " open your mouth , " said
  the {beast} . " think of {fruits} , " said a {bird} . {name} did it all at once and got {very}
  dizzy .

# turn
- steps: " how do you eat a {big} {treat} ? " asked {his} {elder} . " one bite at a time , " {says}
  . " well then , " {says3} . so they [cut the big thing into|made a list of] {number} little things
  , and every day after breakfast {name} practiced just one of them .
- swap: {soon} , {pal} came by . " i know how {skill} , " {says2} . " but i do n't know how
  {other=skill} . " " i do ! " {says} . " then you teach me , and i teach you . " they practiced
  {all_day} , and they laughed at every mistake , so that no mistake stayed sad for long .
- forgot: in the end {he} gave up and went to the {pond} to {pastime} . {he} thought of nothing at
  all . the water was {hue} , and the air smelled of {smell} . and then , without even trying , {he}
  did it . " did you see that ? " {asks} . but only a {bug} had seen it .

# end
- show: {name} ran home to show {his} {elder} how {skill} . {his} {elder} clapped until {his3} hands
  were red . {joy}
- teach: on {weekday} , everybody clapped , and a very small {beast} asked , " can you teach me too
  ? " " {okay} , " {says} . " {it_is} easy , once you have done it wrong {number} times . " {joy}

# lesson
- practice: nobody can do it the first time
- patience: practice and patience go hand in hand
- fun: we learn best when we are having fun
"""

FAMILIES["rainy day"] = """
cast: child beast folk
when: day

# problem
- rain: wanted to go to the {place} , but it was raining . it rained on the {tree} and on the
  {flowers} , and it rained on the {job} . {name} pressed {his} nose against the window . " there is
  nothing to do , " {groans} .
- snow: {could_not} open the door . there was snow up to the [window|roof|doorbell|chimney] ! "
  nobody can go out today , " {says3} . {name} looked at the clock . it said {number} , and it
  {did_not} seem to move .
- cold: had a cold . {his} nose was red , and {he} had to stay inside , although all the others were
  playing in the {place} . {he} could hear them laugh . " {it_is} not fair , " {groans} , and {he}
  sneezed {number} times .

# attempt
- count: {he} counted the [raindrops|flowers|cracks] on the wall . {he} counted {his}
  [buttons|spoons|pencils|pillows|marbles] , and there were {number} . {he} turned a {snack=treat}
  around on {his} plate and told it a joke . the {snack} {did_not} laugh .
- bother: {he} went to {his} {elder} . " what can i do ? " " read a book . " " what can i do then ?
  " " [tidy up|ask me later|count the spoons|take a nap] . " " and then ? " {his} {elder} looked up
  from {his3} {thing} and sighed so deeply that the curtains moved .
- none: []

# turn
- box: in the corner stood a big , empty box . {name} looked at it , and the box looked back . "
  {you_are} not a box at all , " {says} . " {you_are} a {ship=ship} ! " and they were off : past the
  island of the {beast} people , around the table , and right through a storm of {fruits} . a
  [plate|pot lid|bun|hoop] was the wheel , and a {hue} {cloth} was the flag .
- friend: {soon} , the bell rang . it was {pal} , [wrapped|bundled up] in a {hue} {cloth} . " i
  thought that you might be bored , " {says2} , and out of {his2} bag came {treats} and a game of
  {game=board_game} . they played {game} {all_day} , and {name} won {number} times .
- trunk: up in the attic {he} found a trunk with old clothes . {name} put on a {hue} {cloth} and a
  [feather|velvet|straw|paper] hat . now {he} was a {role=job} , and now {he} was a king 's {bird} .
  {his} {elder} came up to see what the noise was , and before {he3} knew it , {he3} was a {role}
  too .

# end
- over: " look , you can go out again , " {says3} . " not now , " {says} . " {i_am} busy ! " {joy}
- evening: when it got dark , {name} was [surprised|astonished|amazed] . where had the day gone ? it
  had been [a short one|a very good one|the best one in weeks] . {joy}

# lesson
- make: a dull day is a box that you have not opened yet
- imagine: with a little imagination , you can go anywhere
- rain: there is no bad weather for a good idea
"""

FAMILIES["earning it"] = """
cast: child beast winged folk
when: day

# problem
- window: saw a {nice} {color=hue} {thing=thing} in the window of the [corner|little|old] shop . it
  cost {number} coins . {name} turned out all {his} pockets . {he} had a [button|string|stamp|cork]
  , a {fruit} and a dead {bug} , but {he} {did_not} have one coin .
- present: wanted to give {his} {elder} a {nice} {color=hue} {thing=thing} [for {his3} birthday|to
  say thank you|because it was {weekday}] . {he} knew just where to get it . but it cost {number}
  coins , and {name} had only one , and that one was made of chocolate .
- fair: heard that the fair was coming to the {place} . there would be a merry-go-round , {treats} ,
  and a man who sold {color=hue} {thing_plural} . " i need a ride and a {treat} , " {says} , " and i
  need {number} coins . "

# attempt
- stand: {he} set up a little table and painted a sign : " {drink=drink} , one coin . " the sun was
  hot , and nobody came . {name} got thirsty and drank a cup . {he} drank another cup . in the
  evening {he} had no {drink} and no coins , but {he} had a tummy ache .
- sing: {he} stood on a box in the {place} and sang as loud as {he} could . a {bird} covered its
  ears . the {job} gave {him} a coin so that {he} would stop , but it rolled down a drain .
  {feeling}
- none: []

# turn
- work: then {name} went to {a_guide} . " can i help you ? " {he} {asked} . {he} swept the floor ,
  carried {fruits} , fed the {beast} and painted the door {hue} . it took {number} days , and {his}
  back hurt . " {you_are} the best helper [i ever had|i 've ever had] , " {says4} , and {he4} put
  the coins in {his} {hands} , one by one .
- purse: on the way home {he} found a purse full of coins . {name} could have kept it . {he} looked
  left , and {he} looked right . then {he} read the name inside and took it back to {a_guide} . "
  that is all the money i have , " {says4} . " thank you ! an honest {kind} should have a
  [reward|present|medal|party] , and some coins too . "
- friend: {soon} , {pal} asked what was wrong . " i have some coins , " {says2} , " and i do n't
  need them till {weekday} . " {friend} turned over the piggy bank and shook it : clink , clink ,
  clink . " {i_will} pay you back , " {says} . " i know , " {says2} .

# end
- proud: and so {name} got what {he} had wanted so much . {he} told the {job} about it , and the
  {bird} , and every {beast} on the way home . {joy}
- gift: {name} ran all the way . {he} bought what {he} wanted , and there was even one coin left .
  with that {he} bought a {treat} for {his} {elder} . {joy}

# lesson
- work: what you have worked for shines the brightest
- purse: an honest heart is worth more than gold
- friend: it feels good to help
"""

FAMILIES["new neighbor"] = """
cast: child beast winged folk
when: day

# problem
- moved: saw a {hue} wagon stop next door . out came a bed , {number} chairs , a {instrument} and a
  {trait} {kind2} with a {hue} {cloth} . it was somebody new ! {name} wanted to say hello , but {he}
  was too [shy|scared|nervous] .
- new: was new in the {place} . {he} {did_not} know anybody , and {he} {did_not} know where the
  swings were . a {kind2} with a {hue} {cloth} was playing over there , all alone . " what if {he2}
  does n't like me ? " {he} {thought} .
- strange: heard that a very strange {kind2} had come to live {near} . " {he2} eats {bugs} , " said
  the {job} . " {he2} never says good morning , " said the {beast} . {name} wanted to see it with
  {his} own eyes .

# attempt
- peep: {he} looked through a hole in the fence . on the other side there was an eye . it looked at
  {him} ! {name} [cried out|jumped|turned pale] and ran home , and on the other side somebody ran
  home too .
- drawing: {name} drew a picture of a {beast} with a {hue} hat . {he} wanted to [push it under the
  door|leave it on the step|put it in the mailbox] . but then {his} knees got soft , and {he} only
  left a {fruit} and hurried away .
- none: []

# turn
- reach: on {weekday} , at the market , there was one last {fruit=fruit} in the
  [basket|box|crate|barrel] . {name} reached for it , and so did somebody else . it was the {kind2}
  ! " you take it , " {says} . " no , you , " said the {kind2} . " {i_am} {friend} . " then they
  both reached for it again , and they both laughed .
- guide: {a_guide} needed help with a heavy {load=container} . " you take one end , " said {guide}
  to {name} , " and you take the other , " {he4} said to the {kind2} . nobody can carry a {load}
  together and say nothing . " {i_am} {friend} , " said the {kind2} . " {i_am} {dear} , " {says} .
- ball: a {hue} ball came flying over the [fence|wall|hedge|gate] and landed in {name} 's soup .
  after the ball came the {kind2} . " {i_am} {very} sorry , " {he2} said . " my name is {friend} .
  is that [carrot|onion|tomato|noodle] soup ? " " it was , " {says} . " do you want some ? "

# end
- same: they found out that they both liked to {shared_pastime} , and that they both were scared of
  the {beast} next door . {ever_after} , {friends} met every {weekday} . {joy}
- secret: {friend} {was_not} strange at all , only [shy|new|a little lonely] . " i wanted to say
  hello {number} times , " {says2} , " but i was scared of you . " " of me ? " {says} . {joy}

# lesson
- hello: a friend is a stranger that you said hello to
- strange: you should not believe everything that people say
- shy: the others are often as shy as you are
"""

FAMILIES["the seed"] = """
cast: child beast folk
when: day

# problem
- gift: got a {tiny} seed from {a_guide} . " what will it be ? " {asks} . " that is a secret , "
  {says4} . " you have to wait and see . " {name} put it in the ground behind the house . {he}
  {was_not} good at waiting .
- biggest: decided to grow the biggest {plant=plant} in the {place} . " it will be as tall as a
  {tree} , " {says} , " and {i_will} live on the top . " {he} planted the seed and stood beside it
  with a [ruler|watering can|chair|stopwatch] .
- sick: found a {plant=plant} in a broken pot . it was dry , and its leaves were
  [brown|yellow|hanging down] . " throw it away , " said the {job} . but {name} took it home and put
  it in the garden . " you only need a friend , " {says} .

# attempt
- dig: the next day , nothing had happened . the day after that , nothing had happened either . so
  {name} dug it up to have a look , and put it back , and dug it up again . " please stop that , "
  said a {bug} . " nobody can grow like this . "
- water: {name} gave it water in the morning , at noon and at night . {he} gave it {drink} and
  {drink} and a piece of {his} {treat} . soon the garden was a lake , and a {bird} was swimming in
  it . {feeling}
- none: []

# turn
- wait: then {name} had an idea . {he} took a chair , sat down and told it stories , one every
  evening . {he} told it about the {beast} and the {job} . {he} ran out of stories , so {he} made up
  new ones . and on the {ordinal} evening , there was a small green leaf .
- forget: {pal} came to play , and they played {game} for a whole week , and {name} forgot all about
  the garden . it rained a little , and the sun shone a little . on {weekday} {friend} asked , "
  what is that green thing over there ? "
- worm: that night a worm put its head out of the ground . " down here , we are doing what we can ,
  " it said . " do your part , and leave us the rest . " " what is my part ? " {asks} . " [not to
  step on it|to keep the {bird} away|to say good night to it] , " said the worm . so that was what
  {he} did , {number} days long .

# end
- grow: it grew , and it grew , first as high as {his} knee , and then as high as {his} nose . in
  {season} it had {number} {hue} [blossoms|flowers|buds|blooms] , and people came from far away to
  smell it . {joy}
- share: when {season} came , it was taller than {his} {elder} . {name} sat in its shade , ate
  {treats} and put aside {number} new seeds , one for every friend . {joy}

# lesson
- wait: good things need time
- love: love is a kind of sunshine
- trust: you can not make a leaf grow by pulling it
"""

FAMILIES["too much"] = """
cast: child beast winged folk
when: day

# problem
- basket: found a {container} full of {fruits=fruits} at the side of the road . " {hooray} , "
  {says} , " {fruits} ! " there was a little note on it : " for everyone in the {place} . " {name}
  put the note in {his} pocket and looked around . nobody had seen {him} .
- party: was the first one at the party . on the table stood a mountain of {fruits=fruits} , and
  there was nobody in the room . " one of the {fruits} wo n't be missed , " {says} . then {he} took
  another one , because the first one looked lonely .
- store: picked all the {fruits=fruits} in the {place} , every last one . " give us some , " said
  the {beast} and the {bird} . " no , " {says} . " i found them , so they are mine . winter is long
  . " and {he} locked the door {number} times .

# attempt
- eat: {name} ate and ate . {he} ate {number} of them sitting and {number} of them lying down .
  {his} tummy got as round as a [drum|pumpkin|ball|barrel] . it began to [hurt|grumble|gurgle] , and
  {he} got stuck in the door . " {oh_no} , " {groans} .
- hide: {he} hid them {hideout} and {hideout} . {he} sat in front of them and {did_not} sleep .
  whenever a {bug} walked by , {he} {cried} , " go away ! " it was {very} tiring and {very} lonely .
- none: []

# turn
- song: {suddenly} , {he} heard laughing outside . {pal} was sitting in the grass with all the
  others . they had only one {treat} , and everybody took a tiny bite and passed it on . they looked
  so {glad} that {name} [stopped|held {his} breath|swallowed hard] . {he} had so much , and {he} had
  no one .
- hungry: there was a knock at the door . a {thin} {baby=baby} stood outside . " i do n't want to
  bother you , " it said . " i only want to smell them . " then it closed its eyes and
  [smelled|sniffed] . something in {name} 's chest went soft , like butter in the sun .
- rotten: after {number} days , there was a funny smell . the {fruits} had turned [brown|soft|green
  and furry] ! only a few of them were still good . {a_guide} shook {his4} head . " what you keep ,
  you lose , " {says4} . " what you give away , you have . "

# end
- feast: so {name} carried out everything that was left . they all sat down together , and there was
  enough for everyone , even for the {bug} . {joy}
- sorry: " {i_am} sorry , " {says} . " there are more . help yourselves ! " and they made a big pot
  of jam together . {name} stirred , and the {job} sang . {joy}

# lesson
- share: food tastes best with friends
- greed: if you want it all , you end up with nothing
- alone: a full table is sad with an empty chair
"""

FAMILIES["losing the way"] = """
cast: child beast winged folk
when: day

# problem
- follow: followed a {hue} {chased=winged_bug} into the woods . it flew from the {flowers} to the
  {flowers} , and {name} {went} after it . when it was gone , {he} looked around . every tree looked
  the same . " where am i ? " {asks} .
- fog: was on the way to {his} {elder} with a basket of {treats} when the fog came . first the hills
  were gone , then the {tree} , and then {name} {could_not} even see {his} own feet . {he} was lost
  .
- shortcut: wanted to be home early and took a shortcut . " left at the {tree} , and right at the
  [mushroom|ditch|signpost|big rock] , " {he} {said} . but there were {number}
  [trees|oaks|bushes|stumps] just like the first , and [soon|before long|after a while] {he}
  {did_not} know the way any more .

# attempt
- stream: {he} went along a stream , because a stream has to go somewhere . it went around a
  [rock|hill|haystack|tower] , under a [root|bridge|log|fence] and into a hole , and that was the
  end of it . {feeling}
- shout: " hello ! " {cries} . " hello , " said somebody . " where are you ? " " where are you ? " "
  who are you ? " " who are you ? " it was only the echo , and it was as lost as {he} was .
- none: []

# turn
- fireflies: it got dark . then a little light went on , and another , and {number} more . they were
  fireflies ! " we are going to a dance {near} , " they said . " is that on your way ? " " {it_is}
  right next to my house ! " {says} , and {he} followed them like a ship that follows the stars .
- soup: {name} closed {his} eyes and took a deep breath . there was a smell of {smell} and {smell} .
  it was {his} {elder} 's [soup|stew|pie|porridge] ! nobody else put so much {spice} in it . {he}
  followed {his} nose , over a [log|ditch|wall|stream] and under a fence , and the smell grew
  stronger and stronger .
- friend: {suddenly} , {he} saw a light between the trees . it was {pal} with a lantern . " you were
  not home for supper , " {says2} , " so i asked the {first=bird} , and the {first} asked the
  {second=beast} , and the {second} had seen your {hue} {cloth} . " {name} had never been so glad to
  see anybody .

# end
- home: {his} {elder} was standing at the door . " there you are ! " {he3} {cried} , and {he3}
  {hugged} {him} {number} times . there was {drink} , and there were {treats} . {joy}
- map: {name} was home at last . {he} had leaves behind {his} ears and a {bug} in {his} pocket . the
  next morning {he} drew a map , with {number} trees , a {beast} and a big red x for home . {joy}

# lesson
- shortcut: the short way can be the long way
- home: no light is as bright as the one at home
- friend: {it_is} good to have somebody who looks for you
"""

FAMILIES["a parcel"] = """
cast: child beast winged folk
when: day

# problem
- step: found a {color=hue} {box=parcel} on the step . there was no name on it . " is it for me ? "
  {asks} .
- mail: got a {color=hue} {box=parcel} from the {sender=job} . " somebody sent you something {nice}
  , " said the {sender} . {name} {did_not} know who .
- tree: saw a {color=hue} {box=parcel} hanging in the {tree=tree} . it
  [turned|rustled|ticked|hummed] in the wind .

# attempt
- shake: {name} shook it . it went {sound=noise} . {he} shook it again , and it went {sound} again .
- guess: " {it_is} a {thing} , " {says} . " or a {treat} . or a very small {beast} . "
- none: []

# turn
- friend: {suddenly} , the {box} laughed , and out jumped {pal} ! " did i scare you ? " {asked}
  {friend} . " not at all , " said {name} , and {he} [picked {himself} up|came out from behind the
  door|got up from the floor] .
- empty: {name} opened it . it was empty ! on the bottom there was a note : " this is a box of fresh
  air {near} . love , {elder} . " it smelled of {smell} .
- egg: {name} opened it . inside lay {number} {treats} and a note from {a_guide} : " you helped me
  once , on a {weather} day in {season} . you forgot it , but i did not . "

# end
- joy: {joy}
- keep: {joy} the {box} stands next to {his} bed to this day .

# lesson
- small: a present does not have to be big
- think: somebody is always thinking of you
"""

FAMILIES["a big question"] = """
cast: child beast winged folk
when: day

# problem
- sun: wanted to know where the sun goes at night . " does it sleep {hideout} ? " {asks} .
- wind: wanted to know where the wind comes from . " somebody must be blowing , " {he} {thought} .
- river: sat by the {pond} and wondered why water is wet . {he} wondered about it {all_day} .

# attempt
- ask: {he} asked a {bird} , but it only knew about {fruits} . {he} asked the {who=job} , but the
  {who} was {trait} that day .
- chase: {name} {went} to the end of the {here=place} to find out . there was only another {here}
  behind it .
- none: []

# turn
- elder: " i do n't know , " {says3} . " nobody ever asked me that . " they sat down on {perch} and
  thought about it together , and {his} {elder} forgot the [soup|tea|porridge|cake] on the stove .
- guide: {he} met {a_guide} . " i used to ask that too , " {says4} . " now i ask where my
  [glasses|keys|slippers] are . " " they are on your head , " {says} .
- friend: {soon} , {pal} came by . " that is easy , " {says2} . " {it_is} a secret of the
  {blooms=flowers} . " so they lay down on the ground and put their ears to the {blooms} .

# end
- soft: they never found out . but it was a good question , and {name} kept it . {joy}
- next: {joy} tomorrow {he} was going to ask [why the sky is up|who made the first {treat}|what
  {bugs} dream of|how long a minute is] .

# lesson
- ask: a good question is better than a quick answer
- know: even the old do not know everything
"""

FAMILIES["the wrong coat"] = """
cast: child beast folk
when: day

# problem
- party: came home from a party in a {color=hue} {coat=cloth} . it {was_not} {his} {coat} . it was
  much too [big|long|tight|fancy] .
- wash: took a {color=hue} {coat=cloth} from the clothesline . it looked like {his} own , but it
  smelled of {smell} .
- wind: was sitting in the {place} when the wind put a {color=hue} {coat=cloth} on {his} head . "
  {it_is} dark ! " {cries} .

# attempt
- pocket: in the pocket there was a {treat} . {name} ate half of it . then {he} felt bad and put
  back the other half .
- wear: {he} wore it {all_day} , and everybody bowed and called {him} [captain|doctor|your
  majesty|mister mayor] . {he} bowed back .
- none: []

# turn
- guide: {soon} {he} met {a_guide} in a {coat} that was far too small . they looked at each other .
  " i think , " {says4} , " that {i_am} you today . "
- friend: {pal} came around the corner . {he2} looked {very} cold . " have you seen my {coat} ? "
  {asked} {friend} . {name} turned red and gave it back . " {it_is} nice and warm now , " {says} .
- baby: then something moved in the sleeve . it was a {baby=baby} ! it had made a bed in there . "
  could you please stand still ? " it asked . " {i_am} trying to sleep . "

# end
- joy: {joy}
- mark: {name} {laughed} . then {he} sewed a {hue} button on {his} own {coat} , so that it would
  never happen again . {joy}

# lesson
- shoes: {it_is} good to walk around as somebody else for a day
- own: things like to go back to their owners
"""

FAMILIES["not sleepy"] = """
cast: child beast winged folk
when: night

# problem
- water: {did_not} want to go to sleep . " i need a glass of {drink} , " {says} . then {he} needed
  another one .
- moon: was wide awake . the moon sat in the window and looked as if it wanted to play .
- tooth: {could_not} sleep because tomorrow was a big day . tomorrow {he} would go to [the sea|the
  fair|school|the circus|the zoo] .

# attempt
- count: {he} counted {number} sheep . the last one stopped , sat down and asked {him} for a {treat}
  .
- lie: {he} lay on {his} left side , and {he} lay on {his} right side . {he} put {his} feet on the
  pillow .
- none: []

# turn
- elder: {his} {elder} came in . " the {flowers} are asleep , " {says3} , " and the {beast} is
  asleep , and the {bird} , and the {job} . " " and the {last=fruits} ? " {asks} . " the {last} too
  . "
- friend: {name} opened the window . across the road , {pal} was awake too ! they waved . they
  yawned . they waved again , more slowly .
- story: so {name} told {himself} a story about a {trait} {guest=beast} who lived in a {container}
  {near} . just when the {guest} opened the door , {he} ...

# end
- sleep: and then {name} was asleep .
- dream: [soon|before long|after a while] {his} eyes fell shut , first one and then the other . good
  night , {dear} .

# lesson
- rest: everybody needs to rest
- come: sleep comes when you stop looking for it
"""

# --------------------------------------------------------------------------------------------------
# the teller: from here on, code
# --------------------------------------------------------------------------------------------------

INNERMOST = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{([^{}]*)\}")
A_BEFORE_VOWEL = re.compile(r"\ba(?= (?i:hour|honest|(?!one\b|one-|use|uni|ukulele)[aeiou]))")
# Introduced once, then called by the second name.
FIRST_MENTION = {"pal": "friend", "a_guide": "guide"}


class Character(NamedTuple):
    """Somebody who can be the hero or the friend; without a name it is "the girl", "the mouse"."""

    name: str
    kind: str
    pronoun: str
    group: str

    def __str__(self) -> str:
        return f"{self.name} the {self.kind}" if self.name else f"the {self.kind}"


class Plot(NamedTuple):
    """What happens: the names of the parts that are told; the attempt "a+b" is first a, then b."""

    family: str
    problem: str
    attempt: str
    turn: str

    def __str__(self) -> str:
        return ": ".join([self.family, ", ".join(self[1:])])


class Story(NamedTuple):
    """A told story and the two things it was told from."""

    plot: Plot
    character: Character
    text: str
    raw: str  # the text with the capitals of names, though not of sentences


class Family(NamedTuple):
    """A page of FAMILIES, read: who may be its hero, when it begins, its parts by stage, name."""

    cast: list[str]
    when: str
    parts: dict[str, dict[str, str]]


def bullets(text: str) -> list[str]:
    """Return the "- " entries of a text, each on one line."""
    return [" ".join(entry.split()) for entry in f"\n{text.strip()}".split("\n- ")[1:]]


@cache
def table(name: str) -> list[str]:
    """Return the entries of the table `name`, of words or of lines."""
    if name in LINES:
        return bullets(LINES[name])
    return [" ".join(entry.split()) for entry in WORDS[name].split(",")]


@cache
def family(name: str) -> Family:
    """Return the family `name`, read from its page."""
    head, *stages = FAMILIES[name].split("\n# ")
    facts = dict(line.split(": ") for line in head.strip().splitlines())
    parts = {}
    for stage in stages:
        title, _, body = stage.partition("\n")
        parts[title] = dict(entry.split(": ", 1) for entry in bullets(body))
    return Family(facts["cast"].split(), facts["when"], parts)


@cache
def characters() -> list[Character]:
    """Return all characters: everybody with a name, then one without a name of every kind."""
    named = []
    for names, rest in ((GIRLS, "girl she"), (BOYS, "boy he")):
        named += [Character(name, *rest.split(), "child") for name in names.split()]
    for people, group in ((BEASTS, "beast"), (WINGED, "winged"), (FOLK, "folk")):
        named += [Character(*entry.split(), group) for entry in people.split(",")]
    return named + [Character("", *kind) for kind in dict.fromkeys(person[1:] for person in named)]


def plots() -> list[Plot]:
    """Return all plots: each combination of a problem, an attempt and a turn.

    The first two attempts in a row are one, too.
    """
    return [
        Plot(name, problem, attempt, turn)
        for name in FAMILIES
        for problem in family(name).parts["problem"]
        for attempt in attempts(family(name))
        for turn in family(name).parts["turn"]
    ]


def attempts(told: Family) -> list[str]:
    """Return the attempts of a family, and the long one that is two of them in a row."""
    names = list(told.parts["attempt"])
    return [*names, "+".join(names[:2])]


def pick(rng: random.Random, options: Sequence):
    """Return one of the options; unlike rng.choice, this is the same in every version of Python."""
    return options[int(rng.random() * len(options))]


def pronouns(pronoun: str, suffix: str = "") -> dict[str, str]:
    """Return the four forms of a pronoun, called {he} {him} {his} {himself} with a suffix."""
    pairs = zip(PRONOUNS["he"], PRONOUNS[pronoun], strict=True)
    return {form + suffix: word for form, word in pairs}


class Teller:
    """Fills in the marks of one story, and remembers what it has said."""

    def __init__(self, rng: random.Random, hero: Character, when: str):
        self.rng = rng
        self.drawn: set[str] = set()
        friend = pick(rng, [c for c in characters() if c.name and c.pronoun != hero.pronoun])
        self.kinds = {hero.kind, friend.kind}
        self.called = {"when": f"{{{when}}}"}
        self.called |= self.hero(hero)
        self.called |= self.friend(hero, friend)
        self.called |= self.grown_ups()
        self.called["home"] = self.fill(HOMES[hero.group])

    def hero(self, hero: Character) -> dict[str, str]:
        """Return what the story calls its hero, and what belongs to the hero."""
        hands = "feet" if hero.kind in FOOTED else HANDS[hero.group]
        words = {"kind": hero.kind, "hands": hands} | pronouns(hero.pronoun)
        if not hero.name:
            words |= {"name": f"the {hero.kind}", "dear": f"little {hero.kind}"}
            return words | {"called": "", "by_name": ""}
        name = hero.name.title()
        by_name = f"the {hero.kind} 's name was {name} ."
        called = "[named|named|called] {name}"
        return words | {"name": name, "dear": name, "called": called, "by_name": by_name}

    def friend(self, hero: Character, friend: Character) -> dict[str, str]:
        """Return what the story calls the friend, who is "she" to a "he": the two never mix."""
        name = friend.name.title()
        introduced = f"{PRONOUNS[hero.pronoun][2]} friend {name}"
        if friend.group != "child":
            introduced += f" the {friend.kind}"
        words = {"friend": name, "kind2": friend.kind, "pal": introduced}
        return words | pronouns(friend.pronoun, "2")

    def grown_ups(self) -> dict[str, str]:
        """Return what the story calls the elder and the guide."""
        elder, _, elder_pronoun = pick(self.rng, ELDERS.split(",")).strip().rpartition(" ")
        guides = [guide for guide in GUIDES.split(",") if not self.kinds & set(guide.split())]
        guide, _, guide_pronoun = pick(self.rng, guides).strip().rpartition(" ")
        words = {"elder": elder, "guide": f"the {guide}", "a_guide": f"a {guide}"}
        return words | pronouns(elder_pronoun, "3") | pronouns(guide_pronoun, "4")

    def fill(self, text: str) -> str:
        """Return the text without its marks."""
        while "[" in text:
            text = INNERMOST.sub(lambda options: pick(self.rng, options[1].split("|")), text)
        return SLOT.sub(lambda slot: self.say(slot[1]), text)

    def say(self, slot: str) -> str:
        """Return what stands for {slot}."""
        name, _, source = slot.partition("=")
        if source:
            self.called[name] = self.draw(source)
        if name not in self.called:
            return self.fill(PHRASES[name]) if name in PHRASES else self.draw(name)
        said = self.called[name]
        if name in FIRST_MENTION:
            self.called[name] = self.called[FIRST_MENTION[name]]
        return self.fill(said)

    def draw(self, name: str) -> str:
        """Draw from a table: nothing said before, if possible.

        Nor somebody of the hero's or friend's kind.
        """
        new = [e for e in table(name) if e not in self.drawn and not self.kinds & set(e.split())]
        entry = pick(self.rng, new or table(name))
        self.drawn.add(entry)
        return self.fill(entry)

    def maybe(self, chance: float, text: str) -> str:
        """Return the text, or with the rest of the chance nothing."""
        return text if self.rng.random() < chance else ""


def lessons(plot: Plot) -> list[str]:
    """Return the morals that fit the plot: none with the name of a part that it does not tell."""
    parts = family(plot.family).parts
    told = [plot.problem, *plot.attempt.split("+"), plot.turn]
    named = [name for stage in ("problem", "attempt", "turn") for name in parts[stage]]
    return [moral for name, moral in parts["lesson"].items() if name in told or name not in named]


def outline(plot: Plot, teller: Teller) -> Iterator[str]:
    """Yield the pieces of a story in their order, still with marks."""
    told = family(plot.family)
    parts, aside = told.parts, f"{{{told.when}_aside}}"
    yield "{opening}"
    yield parts["problem"][plot.problem]
    for attempt in plot.attempt.split("+"):
        yield teller.maybe(0.25, aside)
        yield parts["attempt"][attempt]
    yield teller.maybe(0.2, aside)
    yield parts["turn"][plot.turn]
    yield pick(teller.rng, list(parts["end"].values()))
    teller.called["lesson"] = pick(teller.rng, lessons(plot))
    yield teller.maybe(0.35, "{moral}")
    yield teller.maybe(0.35, f"{{{told.when}_closing}}")


def tell(rng: random.Random, plot: Plot, hero: Character) -> Story:
    """Tell the plot of the hero."""
    teller = Teller(rng, hero, family(plot.family).when)
    raw = " ".join(teller.fill(piece) for piece in outline(plot, teller))
    raw = A_BEFORE_VOWEL.sub("an", " ".join(raw.split()))
    return Story(plot, hero, raw.lower(), raw)


def corpus(seed: int = SEED) -> dict[str, list[Story]]:
    """Return the stories of each split; no pair of plot and character comes twice."""
    rng = random.Random(seed)
    told = [plot for plot in plots() if "+" not in plot.attempt or rng.random() < LONG_PLOTS]
    pairs = []
    for plot in told:
        cast = family(plot.family).cast
        pairs += [(plot, hero) for hero in characters() if hero.group in cast]
    pairs.sort(key=lambda _: rng.random())  # a shuffle that is the same in every version of Python
    untold = iter(pairs)
    return {split: list(tell_until(size, rng, untold)) for split, size in SIZES.items()}


def tell_until(
    size: int, rng: random.Random, pairs: Iterator[tuple[Plot, Character]]
) -> Iterator[Story]:
    """Yield stories of the next pairs until their lines fill `size` bytes."""
    while size > 0:
        story = tell(rng, *next(pairs))
        size -= len(story.text) + 1
        yield story


def as_bytes(stories: list[Story]) -> bytes:
    """Return the content of a file: a story a line."""
    return "".join(f"{story.text}\n" for story in stories).encode("ascii")


def contents(seed: int) -> dict[str, bytes]:
    """Return the files by their names: the stories, and the names in those to train on."""
    told = corpus(seed)
    files = {f"{split}.tokens": as_bytes(stories) for split, stories in told.items()}
    spellings = Spellings()
    for story in told["train"]:
        spellings.add(story.raw)
    return files | {names_file(Path("train.tokens")).name: as_lines(spellings.names())}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("make_sample.py", __doc__)
    add = parser.add_argument
    what = "folder of the files (default: %(default)s)"
    add("-o", metavar="DIR", type=Path, default=HERE / "sample", help=what)
    what = "another seed tells other stories (default: %(default)s)"
    add("-seed", type=whole(0), default=SEED, help=what)
    what = "write nothing; exit 1 if a file would change (default: write)"
    add("--check", action="store_true", help=what)
    return parser.parse_args(argv)


def make(args: argparse.Namespace) -> int:
    """Write or check the four files; returns the exit status."""
    same = True
    for name, content in contents(args.seed).items():
        path = args.o / name
        if args.check:
            same = same and path.is_file() and path.read_bytes() == content
        else:
            args.o.mkdir(parents=True, exist_ok=True)
            atomic_write(path, lambda file, content=content: file.write(content))
            print(f"{path}: {len(content.splitlines())} lines, {len(content)} bytes")
    return 0 if same else 1


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0; 1 if a file would change, or could not be written."""
    return guarded("make_sample.py", lambda: make(parse(argv)), argv)


if __name__ == "__main__":
    sys.exit(main())
